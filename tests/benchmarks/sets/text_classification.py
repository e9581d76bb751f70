from __future__ import annotations

import csv
import json
from collections import defaultdict
from functools import cache, partial
from pathlib import Path

import numpy as np

from tests.benchmarks.sets import PublishedSet
from tests.published import DATA

FOLDER = DATA / "text_classification"
SAMPLES = Path(__file__).resolve().parents[3] / "examples" / "banking"
TASK = {"task": "text-classification"}
EXPERIMENTS = 10
FEW = 8


def _with_header(name: str) -> bytes:
    return b"text\tlabel\n" + (FOLDER / name).read_bytes()


@cache
def _orders(count: int, experiments: int) -> list[list[int]]:
    """Return the order of rows in each experiment: shuffled on and on, as MTEB 1.x does."""
    random = np.random.RandomState(42)
    order = list(range(count))
    found: list[list[int]] = []
    for _ in range(experiments):
        random.shuffle(order)
        found.append(order.copy())
    return found


def _few(part: str, experiment: int) -> bytes:
    """Return the first 8 rows of each label in this experiment's order; for validation the ninth."""
    with (FOLDER / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    for at in _orders(len(rows), EXPERIMENTS)[experiment]:
        by_label[rows[at]["category"]].append(rows[at])
    places = slice(0, FEW) if part == "train" else slice(FEW, FEW + 1)
    kept = [row for members in by_label.values() for row in members[places]]
    return "\n".join(json.dumps(row) for row in kept).encode()


# The few-shot protocol of MTEB (Muennighoff et al. 2022, arXiv 2210.07316): a logistic regression, C = 1.
FEW_SETS = {
    f"banking77_few_{n}": PublishedSet(
        partial(_few, "train", n),
        "text_classification/banking77/test.csv",
        {**TASK, "method": {"kind": "linear_probe", "regularization": 1.0}},
        validation=partial(_few, "validation", n),
    )
    for n in range(EXPERIMENTS)
}

SETS = FEW_SETS | {
    "banking77": PublishedSet(
        "text_classification/banking77/train.csv",
        "text_classification/banking77/test.csv",
        {**TASK, "optimization": {"epochs": 5}},
    ),
    "emotion": PublishedSet(
        "text_classification/tweeteval_emotion/train.jsonl",
        "text_classification/tweeteval_emotion/test.jsonl",
        TASK,
        validation="text_classification/tweeteval_emotion/val.jsonl",
    ),
    "banking": PublishedSet(str(SAMPLES / "train.jsonl"), str(SAMPLES / "test.jsonl"), TASK),
    "sst2": PublishedSet(
        lambda: _with_header("sst2/train.tsv"),
        lambda: _with_header("sst2/dev.tsv"),
        TASK,
        name="sst2.tsv",
    ),
    "trec": PublishedSet(
        "text_classification/trec/train.jsonl",
        "text_classification/trec/test.jsonl",
        {**TASK, "data": {"split": {"validation": 0.05}}, "optimization": {"epochs": 5}},
    ),
    "htl_zh": PublishedSet(
        "text_classification/chnsenticorp_htl_zh/train.csv",
        "text_classification/chnsenticorp_htl_zh/test.csv",
        {
            **TASK,
            "data": {"on_bad_rows": "skip"},
            "optimization": {"epochs": 2, "max_length": 192},
        },
    ),
    "thucnews_zh": PublishedSet(
        lambda: _with_header("thucnews_titles_zh/train.tsv"),
        lambda: _with_header("thucnews_titles_zh/test.tsv"),
        TASK,
        name="thucnews.tsv",
    ),
}
