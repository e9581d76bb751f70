"""Text generation with stories260K: a style, instructions, preferences.

The base is the real 0.26 M causal model of that name, which `ATTUNE_MODEL_DIRS` of the server must have as
`stories260K`. Every tenth row is held out as the test set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.benchmarks.sets import PublishedSet
from tests.published import DATA

HELD_OUT = 10
LINES = 8  # of the play to a row
MODELS = ("stories260K",)


def _rows(path: str) -> list[Any]:
    return json.loads((DATA / path).read_text("utf-8"))


def _play() -> list[Any]:
    (path,) = (DATA / "corpus" / "tinyshakespeare").glob("*.txt")
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [{"text": "\n".join(lines[at : at + LINES])} for at in range(0, len(lines) // 5, LINES)]


def _problems() -> list[Any]:
    path = DATA / "generation" / "gsm8k_train" / "train.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _part(rows: Callable[[], list[Any]], *, is_test: bool) -> bytes:
    kept = [row for at, row in enumerate(rows()) if (at % HELD_OUT == 0) == is_test]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in kept).encode()


def _set(rows: Callable[[], list[Any]], **optimization: Any) -> PublishedSet:
    spec: dict[str, Any] = {
        "task": "text-generation",
        "optimization": {"learning_rate": 1e-3, **optimization},
    }
    return PublishedSet(
        partial(_part, rows, is_test=False), partial(_part, rows, is_test=True), spec, models=MODELS
    )


SETS = {
    "play": _set(_play, epochs=3),
    "alpaca_en": _set(partial(_rows, "generation/alpaca_en_demo/alpaca_en_demo.json"), epochs=5),
    "gsm8k": _set(_problems, epochs=3),
    "dpo_en": _set(
        partial(_rows, "generation/dpo_en/dpo_en_demo.json"), learning_rate=1e-4, epochs=10
    ),
}
