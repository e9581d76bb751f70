"""What an evaluation has seen so far, kept on disk, so that a run that is cut off does not see it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from app.adapt.outputs import Generated
from app.kit.clock import monotonic
from workers.protocol import CheckpointRef
from workers.recipes import parts
from workers.recipes.ragged import joined, parted
from workers.training.evaluate import Seen
from workers.training.report import Report

EVERY_S = 30.0
SCORES = "scores.safetensors"
BATCHES = "batches.json"
Noted = tuple[int, Seen, int]  # a batch's number, what it came to, and its rows


class Memory:
    """Batches by number. `plan` is what they are made of: what was seen by another one is forgotten."""

    def __init__(
        self,
        folder: Path,
        checkpoints: Sequence[CheckpointRef],
        plan: Sequence[int],
        report: Report,
    ) -> None:
        self._folder = folder
        self._plan = list(plan)
        self._report = report
        self._known: dict[int, Seen] = {}
        self._pending: list[Noted] = []
        self._saved_at = monotonic()
        found = parts.restore(checkpoints, report)
        kept = [part for part in found if part.facts["plan"] == self._plan]
        for part in kept:
            self._known |= _read(part.folder)
        self.rows = kept[-1].step if kept else 0

    def recall(self, number: int) -> Seen | None:
        """Return what a batch came to in an earlier run."""
        return self._known.pop(number, None)

    def add(self, number: int, seen: Seen, rows: int) -> None:
        """Keep what a batch came to; every half minute it is saved."""
        self._pending.append((number, seen, rows))
        if monotonic() - self._saved_at >= EVERY_S:
            self.save()

    def save(self) -> None:
        """Save what is not yet."""
        self._saved_at = monotonic()
        if not self._pending:
            return
        noted, self._pending = self._pending, []
        covered = range(self.rows, self.rows + sum(rows for _, _, rows in noted))
        self.rows = covered.stop

        def fill(folder: Path) -> None:
            _write(folder, noted)

        parts.save(self._folder, covered, fill, {"plan": self._plan}, self._report)


def _write(folder: Path, noted: Sequence[Noted]) -> None:
    """Write the scores of all rows as one array, and what is written or counted as JSON."""
    batches: list[dict[str, Any]] = []
    arrays: list[NDArray[Any]] = []
    for number, seen, rows in noted:
        entry: dict[str, Any] = {"number": number, "loss": seen.loss, "rows": rows}
        if isinstance(seen.rows[0], np.ndarray):
            arrays += seen.rows
        else:
            entry["written"] = [[asdict(answer) for answer in row] for row in seen.rows]
        batches.append(entry)
    (folder / BATCHES).write_text(json.dumps(batches))
    if arrays:
        save_file(joined(arrays), folder / SCORES)


def _read(folder: Path) -> dict[int, Seen]:
    path = folder / SCORES
    scores = iter(parted(load_file(path)) if path.is_file() else [])
    known: dict[int, Seen] = {}
    for entry in cast("list[dict[str, Any]]", json.loads((folder / BATCHES).read_text())):
        if "written" in entry:
            rows = [[Generated(**answer) for answer in row] for row in entry["written"]]
        else:
            rows = [next(scores) for _ in range(entry["rows"])]
        known[entry["number"]] = Seen(rows, entry["loss"])
    return known
