"""Extractive question answering: the SQuAD sample, and CMRC 2018's trial set (Chinese)."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.sets import PublishedSet

TASK: dict[str, Any] = {"task": "question-answering"}

SETS = {
    "squad_sample": PublishedSet(
        "qa/squad_sample/train.jsonl",
        "qa/squad_sample/validation.jsonl",
        {**TASK, "optimization": {"epochs": 5, "max_length": 384}},
    ),
    "xquad_to_cmrc_zh": PublishedSet(
        "qa/xquad/xquad.zh.json",
        "qa/cmrc2018_zh/cmrc2018_trial.json",
        {**TASK, "data": {"on_bad_rows": "skip"}},
    ),
}
