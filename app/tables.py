"""Imports every table, so that migrations and tests see all metadata."""

from __future__ import annotations

from app.auth import tables as auth
from app.files import tables as files
from app.jobs import tables as jobs
from app.kit.db import Base
from app.models import tables as models

metadata = Base.metadata

__all__ = ["auth", "files", "jobs", "metadata", "models"]
