"""Every loss: what the loop relies on, and values against slow references."""

from __future__ import annotations

import math

import pytest
import torch

from app.adapt.loss import Loss
from app.adapt.losses.binary_cross_entropy import BinaryCrossEntropy
from app.adapt.losses.cross_entropy import CrossEntropy
from app.adapt.losses.mean_squared_error import MeanSquaredError
from app.adapt.outputs import Batch, Outputs
from app.adapt.plugins import LOSSES

ROWS, TOKENS, CLASSES = 6, 5, 4


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sample(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and a target of the form that the loss reads; class indices unless it is told."""

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator())

    def indices(limit: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, limit, shape, generator=generator())

    logits = drawn(ROWS, CLASSES)
    samples = {
        "binary_cross_entropy": (
            logits,
            (torch.rand(logits.shape, generator=generator()) > 0.5).float(),
        ),
        "mean_squared_error": (logits[:, :1], drawn(ROWS)),
        "span_cross_entropy": (drawn(ROWS, TOKENS, 2), indices(TOKENS, ROWS, 2)),
        "cosine_similarity": (drawn(ROWS, 2, CLASSES), torch.rand(ROWS, generator=generator())),
        "in_batch_negatives": (drawn(ROWS, 2, CLASSES), torch.tensor([0, 1, 2, 0, 1, 3])),
        "supervised_contrastive": (drawn(ROWS, 1, CLASSES), torch.tensor([0, 1, 2, 0, 1, 3])),
        "dpo": (drawn(ROWS, 2, TOKENS, CLASSES), indices(CLASSES, ROWS, 2, TOKENS)),
    }
    return samples.get(kind, (logits, indices(CLASSES, ROWS)))


def apply(loss: Loss, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    ids = torch.ones((len(logits), TOKENS), dtype=torch.long)
    batch = Batch(input_ids_BT=ids, mask_BT=ids, target=target)
    teacher = Outputs(logits=logits.detach().flip(0), mask_BT=ids) if loss.needs_teacher else None
    return loss.compute(Outputs(logits=logits, mask_BT=ids), batch, teacher)


@pytest.fixture(params=LOSSES.kinds)
def loss(request) -> Loss:
    return LOSSES[request.param].model_validate({"kind": request.param})


def test_it_is_a_finite_scalar_with_a_gradient(loss):
    logits, target = sample(loss.name())
    logits.requires_grad_()
    value = apply(loss, logits, target)
    assert value.shape == ()
    assert math.isfinite(value.item())
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


def test_parts_weighted_by_their_size_make_the_whole(loss):
    """What lets the loop cut a batch into micro-batches."""
    if loss.needs_teacher:
        pytest.skip("the sample's teacher is made of the whole batch")
    if loss.needs_whole_batch:
        pytest.skip("it says itself that its batches cannot be cut")
    logits, target = sample(loss.name())
    whole = apply(loss, logits, target)
    first, rest = apply(loss, logits[:2], target[:2]), apply(loss, logits[2:], target[2:])
    torch.testing.assert_close(whole, (2 * first + 4 * rest) / 6)


def test_the_order_of_a_batch_does_not_matter(loss):
    logits, target = sample(loss.name())
    torch.testing.assert_close(
        apply(loss, logits, target), apply(loss, logits.flip(0), target.flip(0))
    )


def test_it_survives_json(loss):
    assert type(loss).model_validate_json(loss.model_dump_json()) == loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 0.0]])
def test_cross_entropy_by_hand(smoothing, weights):
    logits, target = sample("cross_entropy")
    expected = 0.0
    for z, y in zip(logits.tolist(), target.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in z))
        for c, value in enumerate(z):
            truth = (1 - smoothing) * (c == y) + smoothing / CLASSES
            expected -= truth * (weights or [1.0] * CLASSES)[c] * (value - log_sum) / ROWS
    loss = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    assert apply(loss, logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_passes_over_padding():
    logits, target = sample("cross_entropy")
    padded = torch.cat([logits, torch.full((2, CLASSES), 100.0)])
    ignored = torch.cat([target, torch.tensor([-100, -100])])
    torch.testing.assert_close(
        apply(CrossEntropy(), padded, ignored), apply(CrossEntropy(), logits, target)
    )
    nothing = apply(CrossEntropy(), logits, torch.full((ROWS,), -100))
    assert nothing.item() == 0.0


def test_binary_cross_entropy_by_hand():
    logits, target = sample("binary_cross_entropy")
    expected = 0.0
    pairs = zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True)
    for z, y in pairs:
        p = 1 / (1 + math.exp(-z))
        expected -= (y * math.log(p) + (1 - y) * math.log(1 - p)) / (ROWS * CLASSES)
    assert apply(BinaryCrossEntropy(), logits, target).item() == pytest.approx(expected, rel=1e-5)
    extreme = apply(BinaryCrossEntropy(), torch.full((1, 1), 1e4), torch.zeros((1, 1)))
    assert extreme.item() == pytest.approx(1e4)


def test_mean_squared_error_by_hand():
    logits, target = sample("mean_squared_error")
    pairs = zip(logits[:, 0].tolist(), target.tolist(), strict=True)
    expected = sum((z - y) ** 2 for z, y in pairs) / ROWS
    assert apply(MeanSquaredError(), logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_in_batch_negatives_by_hand():
    vectors, _ = sample("in_batch_negatives")
    a, p = (torch.nn.functional.normalize(vectors[:, side], dim=-1).tolist() for side in (0, 1))
    target = [0, 1, 2, 0, 1, 3]
    expected = 0.0
    for i in range(ROWS):
        others = [j for j in range(ROWS) if j == i or target[j] != target[i]]
        z = {j: 20 * sum(x * y for x, y in zip(a[i], p[j], strict=True)) for j in others}
        expected -= (z[i] - math.log(sum(math.exp(value) for value in z.values()))) / ROWS
    loss = LOSSES["in_batch_negatives"].model_validate({})
    assert apply(loss, *sample("in_batch_negatives")).item() == pytest.approx(expected, rel=1e-4)


def test_supervised_contrastive_by_hand():
    vectors, target = sample("supervised_contrastive")
    v = torch.nn.functional.normalize(vectors[:, 0], dim=-1).tolist()
    terms = []
    for i in range(ROWS):
        z = {
            j: sum(x * y for x, y in zip(v[i], v[j], strict=True)) / 0.1
            for j in range(ROWS)
            if j != i
        }
        same = [j for j in z if target[j] == target[i]]
        if same:
            log_sum = math.log(sum(math.exp(value) for value in z.values()))
            terms.append(-sum(z[j] - log_sum for j in same) / len(same))
    loss = LOSSES["supervised_contrastive"].model_validate({})
    expected = sum(terms) / len(terms)
    assert apply(loss, vectors, target).item() == pytest.approx(expected, rel=1e-4)
