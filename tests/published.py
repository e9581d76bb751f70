"""Published data sets that tests and benchmarks read where they lie; they are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(
    os.environ.get("ATTUNE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


needs_published = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the published data sets are not under ATTUNE_TEST_DATA ({DATA})"
)


def published(name: str) -> Path:
    """Return the folder of a data set; without it the test is skipped, and says so."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not under ATTUNE_TEST_DATA ({DATA})")
    return folder
