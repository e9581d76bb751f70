"""The batch plan: a pure function that loses no example and keeps its budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.training.batches import BatchPlan, fit_tokens, padding_share

LENGTHS = [int(n) for n in np.random.default_rng(0).integers(4, 60, size=203)]


def plan(lengths=LENGTHS, **changes) -> BatchPlan:
    options = {"batch_size": 8, "max_tokens": 256, "epochs": 3, "seed": 0, **changes}
    return BatchPlan(lengths, **options)


def test_every_example_once_an_epoch():
    p = plan()
    assert p.steps_per_epoch == 26
    assert p.total_steps == 78
    for epoch in range(3):
        steps = range(epoch * 26, (epoch + 1) * 26)
        assert sorted(i for step in steps for i in p.batch(step)) == list(range(203))


def test_a_step_needs_no_history():
    backwards = plan()
    last_first = [backwards.batch(step) for step in reversed(range(78))]
    forwards = plan()
    assert last_first[::-1] == [forwards.batch(step) for step in range(78)]


def test_seed_and_epoch_change_the_order():
    first, other = plan(), plan(seed=1)
    assert first.batch(0) != other.batch(0)
    assert [first.batch(s) for s in range(26)] != [first.batch(s) for s in range(26, 52)]


def test_parts_make_up_their_batch_and_keep_the_budget():
    p = plan()
    for step in range(p.total_steps):
        parts = p.micro_batches(step)
        assert sorted(i for part in parts for i in part) == sorted(p.batch(step))
        assert all(len(part) * max(LENGTHS[i] for i in part) <= 256 for part in parts)


def test_max_steps_ends_it_early():
    assert plan(max_steps=5).total_steps == 5
    assert plan(max_steps=1000).total_steps == 78


def test_similar_lengths_go_together():
    lengths = [int(n) for n in np.random.default_rng(1).lognormal(3, 0.6, size=3200) + 3]
    sorted_plan = plan(lengths, batch_size=32, max_tokens=10**9, epochs=1)
    order = np.random.default_rng(2).permutation(3200)
    random_batches = [order[i : i + 32] for i in range(0, 3200, 32)]
    padded = sum(len(b) * max(lengths[i] for i in b) for b in random_batches)
    assert padding_share(sorted_plan, lengths) < 0.1
    assert 1 - sum(lengths) / padded > 0.4


@pytest.mark.parametrize("count", [1, 7, 8, 9])
def test_small_sets(count):
    p = plan([5] * count, epochs=2)
    assert p.total_steps == 2 * -(-count // 8)
    assert sorted(i for s in range(p.steps_per_epoch) for i in p.batch(s)) == list(range(count))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(16, 1000))
def test_fit_tokens_cuts_without_loss(lengths, budget):
    parts = fit_tokens(range(len(lengths)), lengths, budget)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[i] for i in part) <= budget
