"""Few-shot sets: the rows that MTEB 1.x draws, and none of them twice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.benchmarks.sets.few_shot import SETS, few, rows_of
from tests.published import needs_published

pytestmark = needs_published


def drawn_as_mteb_does(path: str, size: int, experiment: int) -> list[str]:
    """Return the texts by MTEB's own way: a cumulative shuffle whose seed each evaluator sets anew."""
    rows = rows_of(path)
    order = np.arange(len(rows))
    for _ in range(experiment + 1):
        np.random.RandomState(42).shuffle(order)
    counts: dict[str, int] = {}
    kept: list[str] = []
    for at in order:
        label = rows[at]["label"]
        counts[label] = counts.get(label, 0) + 1
        if counts[label] <= size:
            kept.append(rows[at]["text"])
    return kept


@pytest.mark.parametrize("experiment", [0, 1, 9])
def test_the_rows_are_those_of_mteb(experiment):
    found = few("banking77", 8, experiment, "train").decode().splitlines()
    texts = [json.loads(line)["text"] for line in found]
    assert texts == drawn_as_mteb_does("banking77/train.csv", 8, experiment)
    assert len(texts) == 8 * 77


@pytest.mark.parametrize(("name", "size", "labels"), [("emotion", 16, 4), ("trec", 8, 6)])
def test_no_row_is_in_two_parts(name, size, labels):
    parts = {
        part: few(name, size, 3, part).splitlines() for part in ("train", "validation", "left_out")
    }
    assert [len(lines) for lines in parts.values()] == [size * labels, 2 * labels, 500]
    train, validation, left_out = (set(lines) for lines in parts.values())
    # A text that the published file has twice may still be in two parts: at most a few are.
    assert not train & validation
    assert len(left_out & (train | validation)) <= 2


def test_every_set_is_there():
    assert {name.rsplit("_", 1)[0] for name in SETS} == {
        "banking77_few8", "emotion_few8", "emotion_few16", "sst2_few8", "sst2_few16", "trec_few8",
    }  # fmt: skip
