"""Few labelled rows of published sets, drawn as MTEB draws them, with a linear probe on them.

`{set}_few{rows per label}_{experiment}`; of Banking77 at 8 rows and TweetEval's emotion at 16 there are
ten experiments, as in MTEB. `tests/benchmarks/few_shot.py` runs SetFit's two steps on the same rows.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from functools import cache, partial
from io import StringIO

import numpy as np

from tests.benchmarks.sets import PublishedSet
from tests.published import DATA

FOLDER = DATA / "text_classification"
EXPERIMENTS = 10
SEED = 42
HELD = 2  # rows of each label for validation, which picks nothing here
LEFT_OUT = 500  # most rows of the left-out part
# The training and the evaluation file of each set.
FILES = {
    "banking77": ("banking77/train.csv", "banking77/test.csv"),
    "emotion": ("tweeteval_emotion/train.jsonl", "tweeteval_emotion/test.jsonl"),
    "sst2": ("sst2/train.tsv", "sst2/dev.tsv"),
    "trec": ("trec/train.jsonl", "trec/test.jsonl"),
}
SIZES = {"banking77": (8,), "emotion": (8, 16), "sst2": (8, 16), "trec": (8,)}

Rows = list[dict[str, str]]


@cache
def rows_of(path: str) -> Rows:
    """Return the rows of a set's file, each a text and a label."""
    content = (FOLDER / path).read_text("utf-8")
    if path.endswith(".jsonl"):
        found = [json.loads(line) for line in content.splitlines()]
    elif path.endswith(".tsv"):  # no header, and quotes mean nothing
        found = [
            dict(zip(("text", "label"), line.split("\t"), strict=True))
            for line in content.splitlines()
        ]
    else:
        found = [
            {"text": row["text"], "label": row["category"]}
            for row in csv.DictReader(StringIO(content, newline=""))
        ]
    return [{"text": row["text"], "label": row["label"]} for row in found]


@cache
def _orders(count: int) -> list[list[int]]:
    """Return the order of rows in each experiment.

    MTEB 1.x shuffles the order of the experiment before, but each of its evaluators sets the seed again:
    every experiment applies the same permutation once more.
    """
    permutation = np.random.RandomState(SEED).permutation(count)
    order = np.arange(count)
    found: list[list[int]] = []
    for _ in range(EXPERIMENTS):
        order = order[permutation]
        found.append(order.tolist())
    return found


def few(name: str, size: int, experiment: int, part: str) -> bytes:
    """Return `train`: the first rows of each label in this experiment's order.

    Or `validation`: the next two of each label, or `left_out`: up to 500 of the others.
    """
    rows = rows_of(FILES[name][0])
    places: dict[str, int] = defaultdict(int)
    parts: dict[str, Rows] = {"train": [], "validation": [], "left_out": []}
    for at in _orders(len(rows))[experiment]:
        place = places[rows[at]["label"]]
        places[rows[at]["label"]] += 1
        where = "train" if place < size else "validation" if place < size + HELD else "left_out"
        parts[where].append(rows[at])
    return as_lines(parts[part][:LEFT_OUT] if part == "left_out" else parts[part])


def whole_test(name: str) -> bytes:
    """Return the set's evaluation file."""
    return as_lines(rows_of(FILES[name][1]))


def as_lines(rows: Rows) -> bytes:
    """Return rows as JSON lines."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


# The few-shot protocol of MTEB (Muennighoff et al. 2022, arXiv 2210.07316): a logistic regression, C = 1.
SETS = {
    f"{name}_few{size}_{experiment}": PublishedSet(
        partial(few, name, size, experiment, "train"),
        partial(whole_test, name),
        {
            "task": "text-classification",
            "method": {"kind": "linear_probe", "regularization": 1.0},
            "optimization": {"max_length": 256},  # the model's own limit, as there
        },
        validation=partial(few, name, size, experiment, "validation"),
    )
    for name, sizes in SIZES.items()
    for size in sizes
    for experiment in range(EXPERIMENTS)
}
