"""Text classification: binary, multi-class, multi-label, pairs of texts, and regression."""

from __future__ import annotations
