"""Small jobs that ask one tiny model about one file, in the process of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.tiny import make_finished_folder
from tests.trainer_child import (
    SENTENCES,
    TRAIN_ID,
    references,
    write_rows,
)
from workers.protocol import (
    Assignment,
    CheckpointRef,
    DoneEvent,
    Event,
    InputFile,
)
from workers.recipes import run_recipe

MODEL = "ft:tiny:test:0000000000"
ROWS = 60


class Asking:
    """Jobs that ask one tiny model about one file; each run has a folder of its own."""

    def __init__(self, folder: Path, rows: int = ROWS) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.model = folder / "model"
        make_finished_folder(self.model, texts=(*SENTENCES, "0 1 2 3 4 5 6 7 8 9"))
        self.file = write_rows(folder / "rows.jsonl", rows)
        self.filename = "rows.jsonl"
        self.runs = 0

    def spec(self, kind: str, data: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        name = "test" if kind == "evaluate" else "inputs"
        made: dict[str, Any] = {
            "kind": kind, "model": MODEL, "data": {name: TRAIN_ID, **(data or {})},
        }  # fmt: skip
        if kind == "batch_predict":
            made["chunk_rows"] = 7
        return made | {"max_batch_tokens": 64} | fields

    def assignment(self, spec: dict[str, Any], checkpoints: list[CheckpointRef]) -> Assignment:
        self.runs += 1
        folder = self.folder / "runs" / f"e{self.runs:04d}"
        folder.mkdir(parents=True)
        file = InputFile(
            id=TRAIN_ID, filename=self.filename, path=self.file, sha256=sha256_of(self.file)
        )
        return Assignment(
            job_id="job-tiny", epoch=self.runs, spec=spec, files={TRAIN_ID: file},
            models={MODEL: self.model}, checkpoints=checkpoints, folder=folder,
            model_dirs=[self.folder / "bases"], hub=False, lease_ttl_s=60.0,
        )  # fmt: skip

    def run(
        self,
        spec: dict[str, Any],
        seen: list[Event],
        should_drain: Callable[[], bool] = lambda: False,
    ) -> DoneEvent:
        """Do a run in this process, going on for those whose events are in `seen`."""
        assignment = self.assignment(spec, references(seen))
        done = run_recipe(assignment, parse_spec(spec), seen.append, should_drain)
        assert isinstance(done, DoneEvent)
        return done

    def write(self, *rows: Any, name: str = "rows.jsonl") -> None:
        self.file = self.folder / name
        self.filename = name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        self.file.write_text("\n".join(lines) + "\n")


def lines(done: DoneEvent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.outputs[0].path.read_text().splitlines()]


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]
