"""Published data sets as jobs: a module for each task, whose `SETS` are found by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.published import DATA


@dataclass(frozen=True)
class PublishedSet:
    """Training and evaluation file (under the data folder, or what makes the bytes) and the spec.

    `spec` holds every field of the job but its files; `columns` and the like go into `spec["data"]`.
    """

    train: str | Callable[[], bytes]
    test: str | Callable[[], bytes]
    spec: dict[str, Any]
    name: str = "data.jsonl"  # of what a function makes: the extension picks the reader
    validation: str | Callable[[], bytes] | None = None
    models: tuple[str, ...] = field(default=("all-MiniLM-L6-v2",))

    def content(self, part: str | Callable[[], bytes]) -> tuple[str, bytes]:
        """Return a part's file name and bytes."""
        if callable(part):
            return self.name, part()
        path = DATA / part  # an absolute path stands for itself
        return path.name, path.read_bytes()


def published_sets() -> dict[str, PublishedSet]:
    """Return every set of every module here."""
    found: dict[str, PublishedSet] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        found |= importlib.import_module(f"{__name__}.{info.name}").SETS
    return found
