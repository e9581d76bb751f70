"""Several tasks in one step: shares of rows, learned weights, gradients in conflict."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from workers.training.mixture import MixedPlan, Mixture
from workers.training.several import Uncertainty
from workers.training.surgery import GradientSurgery

# --- which rows ---


@pytest.mark.parametrize(
    ("exponent", "expected"), [(1.0, [30, 2]), (0.5, [26, 6]), (0.0, [16, 16])]
)
def test_rows_of_a_step_go_with_a_power_of_the_size(exponent, expected):
    """Of 32 rows, with sizes 16 to 1: 16/17, 4/5 and 1/2 of them for the larger."""
    assert Mixture([1600, 100], exponent).rows_a_step(32) == expected


def test_every_task_has_a_row_and_none_has_more_than_it_has():
    assert Mixture([100_000, 3], 1.0).rows_a_step(32) == [32, 1]
    assert Mixture([5, 100], 0.0).rows_a_step(32) == [5, 16]


def plan(sizes=(20, 6), **options) -> MixedPlan:
    lengths = [3 + n % 5 for n in range(sum(sizes))]
    given = {"batch_size": 8, "max_tokens": 64, "epochs": 3, "seed": 1, **options}
    return MixedPlan(lengths, mixture=Mixture(sizes, 0.5), **given)


def test_each_step_has_rows_of_every_task_and_each_part_of_one():
    found = plan()
    assert found.total_steps == 3 * math.ceil(26 / 8)
    counts = Mixture((20, 6), 0.5).rows_a_step(8)
    for step in range(found.total_steps):
        parts = found.micro_batches(step)
        assert all(len({index < 20 for index in part}) == 1 for part in parts)
        chosen = found.batch(step)
        assert sum(index < 20 for index in chosen) in {counts[0], 20 % counts[0]}
        assert any(index >= 20 for index in chosen)


def test_each_task_goes_round_in_all_of_its_rows():
    found = plan(epochs=30)
    rows = Mixture((20, 6), 0.5).rows_a_step(8)
    for low, high, size in ((0, 20, rows[0]), (20, 26, rows[1])):
        once = math.ceil((high - low) / size)
        seen = [i for step in range(once) for i in found.batch(step) if low <= i < high]
        assert sorted(seen) == list(range(low, high))


def test_a_step_is_a_function_of_its_number():
    assert [plan().batch(step) for step in (4, 1)] == [plan().batch(4), plan().batch(1)]
    assert plan(seed=2).batch(0) != plan().batch(0)


# --- learned weights ---


def test_uncertainty_by_hand():
    module = Uncertainty(["a", "b"])
    with torch.no_grad():
        module.moved.copy_(torch.tensor([0.02, -0.01]))
    for name, s in (("a", 1.0), ("b", -0.5)):
        expected = math.exp(-s) * 3.0 + s / 2
        assert module(name, torch.tensor(3.0)).item() == pytest.approx(expected, rel=1e-5)
        assert module.factors()[name] == pytest.approx(math.exp(-s), rel=1e-5)


def test_a_loss_is_weighted_until_it_and_its_price_balance():
    """d/ds exp(-s) L + s/2 = 0 at s = log 2L: the greater a loss, the less it counts."""
    module = Uncertainty(["a", "b"])
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = {"a": torch.tensor(4.0), "b": torch.tensor(0.25)}
    for _ in range(600):
        optimizer.zero_grad()
        torch.stack([module(name, loss) for name, loss in losses.items()]).sum().backward()
        optimizer.step()
    assert module.factors()["a"] == pytest.approx(1 / 8, rel=0.05)
    assert module.factors()["b"] == pytest.approx(2, rel=0.05)


# --- gradients in conflict ---


def surgery(*gradients: list[float], seed: int = 0) -> tuple[list[float], int]:
    """Return what is left of the tasks' gradients of one shared weight, and the conflicts."""
    shared = nn.Parameter(torch.zeros(len(gradients[0])))
    found = GradientSurgery([shared], [shared])
    for at, gradient in enumerate(gradients):
        shared.grad = torch.tensor(gradient)
        found.take(str(at))
        assert shared.grad is None
    conflicts = found.leave(torch.Generator().manual_seed(seed))
    assert shared.grad is not None
    return shared.grad.tolist(), conflicts


def test_gradients_that_agree_are_added():
    assert surgery([1.0, 0.0], [1.0, 1.0]) == ([2.0, 1.0], 0)


def test_of_two_in_conflict_each_loses_its_part_along_the_other():
    """Of (1, 0) and (-1, 1): (1, 0) + (-1, 1) / 2 is (1/2, 1/2), and (-1, 1) + (1, 0) is (0, 1)."""
    left, conflicts = surgery([1.0, 0.0], [-1.0, 1.0])
    assert left == pytest.approx([0.5, 1.5])
    assert conflicts == 2


def test_what_is_left_hurts_neither_of_two():
    torch.manual_seed(0)
    for _ in range(20):
        pair = [torch.randn(6), torch.randn(6)]
        left = torch.tensor(surgery(pair[0].tolist(), pair[1].tolist())[0])
        for gradient in pair:
            assert left @ gradient >= -1e-5


def test_three_as_the_algorithm_has_it():
    """Algorithm 1 in plain Python, with the order of the others as it was drawn."""
    gradients = [[1.0, 0.0, 0.5], [-1.0, 1.0, 0.0], [0.2, -1.0, 1.0]]
    generator = torch.Generator().manual_seed(3)
    total = [0.0] * 3
    for i, own in enumerate(gradients):
        others = [j for j in range(3) if j != i]
        projected = list(own)
        for at in torch.randperm(2, generator=generator).tolist():
            other = gradients[others[at]]
            product = sum(a * b for a, b in zip(projected, other, strict=True))
            if product < 0:
                size = sum(b * b for b in other)
                projected = [a - product / size * b for a, b in zip(projected, other, strict=True)]
        total = [a + b for a, b in zip(total, projected, strict=True)]
    assert surgery(*gradients, seed=3)[0] == pytest.approx(total, rel=1e-5)


def test_parts_of_a_batch_are_added_and_heads_keep_their_own():
    shared, head, other = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    found = GradientSurgery([shared, head, other], [shared])
    for task, own in (("a", head), ("a", head), ("b", other)):
        shared.grad = torch.tensor([1.0, 0.0]) if task == "a" else torch.tensor([-4.0, 4.0])
        own.grad = torch.tensor([1.0, -1.0])
        found.take(task)
    found.leave(torch.Generator())
    assert head.grad is not None
    assert other.grad is not None
    assert shared.grad is not None
    assert head.grad.tolist() == [2.0, -2.0]
    assert other.grad.tolist() == [1.0, -1.0]
    # a: (2, 0) less its part along (-4, 4) is (1, 1); b: (-4, 4) less its part along (2, 0) is (0, 4).
    assert shared.grad.tolist() == pytest.approx([1.0, 5.0])
