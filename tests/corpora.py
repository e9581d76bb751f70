"""Pretrainings of seconds: a corpus, labelled rows, and a folder for each run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.trainer_child import BAD, ENDINGS, GOOD, write_rows
from workers.protocol import Assignment, CheckpointRef, Event, FinishedEvent, InputFile
from workers.recipes import run_recipe

CORPUS, LABELLED, SECOND = ("file-" + letter * 26 for letter in "abc")
SIZES = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "max_length": 64}
WAYS = {
    "masked_lm": ("bert", {"kind": "masked_lm", "whole_word": True}),
    "causal_lm": ("gpt2", {"kind": "causal_lm"}),
    "span_corruption": ("t5", {"kind": "span_corruption"}),
}


def write_corpus(path: Path, count: int = 150) -> Path:
    """Write sentences of the sentiment set's words."""
    rng = random.Random(1)  # noqa: S311 - test data
    lines = [
        f"{rng.choice((*GOOD, *BAD))}{rng.choice(ENDINGS)} number {number}"
        for number in range(count)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


class Corpus:
    """A pretraining of seconds, and a folder for each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = {
            CORPUS: write_corpus(folder / "corpus.txt"),
            LABELLED: write_rows(folder / "labelled.jsonl"),
            SECOND: write_corpus(folder / "second.txt", 40),
        }
        self.runs = 0
        self.models: dict[str, Path] = {}

    def spec(self, objective: str = "masked_lm", **fields: Any) -> dict[str, Any]:
        family, given = WAYS[objective]
        return {
            "kind": "pretrain",
            "model": {"kind": family, **SIZES},
            "tokenizer": {"kind": "bpe", "vocabulary_size": 420},
            "objective": given,
            "data": {"train": CORPUS},
            "optimization": {"max_length": 32, "batch_size": 4, "max_steps": 6, "epochs": 9},
            "runtime": {"evaluate_every": 3, "checkpoint_every": 2, "seed": 7},
        } | fields

    def assignment(
        self, spec: dict[str, Any], checkpoints: list[CheckpointRef] | None = None
    ) -> Assignment:
        self.runs += 1
        folder = self.folder / "runs" / f"e{self.runs:04d}"
        folder.mkdir(parents=True)
        return Assignment(
            job_id="job-tiny", epoch=self.runs, model_id="ft:tiny:pre:0000000000", spec=spec,
            files={
                id_: InputFile(id=id_, filename=path.name, path=path, sha256=sha256_of(path))
                for id_, path in self.paths.items()
            },
            checkpoints=checkpoints or [], models=self.models, folder=folder,
            cache=self.folder / "cache", model_dirs=[self.folder / "bases"], hub=False,
            lease_ttl_s=60.0,
        )  # fmt: skip

    def run(
        self, spec: dict[str, Any], events: list[Event] | None = None,
        checkpoints: list[CheckpointRef] | None = None,
        should_drain: Callable[[], bool] = lambda: False,
    ) -> FinishedEvent:  # fmt: skip
        assignment = self.assignment(spec, checkpoints)
        seen = [] if events is None else events
        return run_recipe(assignment, parse_spec(spec), seen.append, should_drain)


def weights(finished: FinishedEvent) -> bytes:
    return (finished.folder / "model.safetensors").read_bytes()
