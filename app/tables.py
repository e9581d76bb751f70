"""Imports every table, so that migrations and tests see all metadata."""

from __future__ import annotations

from app.auth import tables as auth
from app.files import tables as files
from app.jobs import tables as jobs
from app.kit.db import Base
from app.models import tables as models

metadata = Base.metadata

# The migration that this code needs; a test keeps it equal to the newest one. It stands here because
# `app` cannot import `migrations`, and readiness must not need Alembic.
SCHEMA_REVISION = "0001"

__all__ = ["SCHEMA_REVISION", "auth", "files", "jobs", "metadata", "models"]
