"""Attune: a REST service that adapts language models."""

from __future__ import annotations

__version__ = "0.1.0"
