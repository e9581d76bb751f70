"""Sentence embeddings: STS-B (English), and few labelled texts as in SetFit's first step."""

from __future__ import annotations

import csv
import json
from functools import partial
from typing import Any

from tests.benchmarks.sets import PublishedSet
from tests.published import DATA

TASK: dict[str, Any] = {"task": "sentence-similarity"}


def _stsb(part: str) -> bytes:
    """Return scored pairs; the files have no header."""
    path = DATA / "sentence_pairs" / "stsb_en_zh" / f"stsb-en-{part}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            {"sentence1": first, "sentence2": second, "score": float(score)}
            for first, second, score in csv.reader(file)
        ]
    return "\n".join(json.dumps(row) for row in rows).encode()


SETS = {
    "stsb": PublishedSet(
        partial(_stsb, "train"),
        partial(_stsb, "test"),
        {**TASK, "optimization": {"epochs": 2, "learning_rate": 5e-5}},
        validation=partial(_stsb, "dev"),
    ),
}
