"""Every loss: what the loop relies on, and values against slow references."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from app.adapt.loss import Loss, internals
from app.adapt.losses.binary_cross_entropy import BinaryCrossEntropy
from app.adapt.losses.cross_entropy import CrossEntropy
from app.adapt.losses.mean_squared_error import MeanSquaredError
from app.adapt.outputs import Batch, Outputs
from app.adapt.plugins import LOSSES
from tests.said import CLASSES, ROWS, TOKENS, Said, inside, said


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
    return loss.compute(Outputs(logits=logits, mask_BT=ids), batch, None)


def case(loss: Loss) -> Said:
    """Return a batch that the loss judges; a loss of a teacher also gets rows of unlike weight."""
    logits, target = sample(loss.name())
    if not loss.needs_teacher:
        return said(logits, target, units=(1,) * ROWS)
    if loss.name() in {"embedding_cosine", "contrastive_distillation"}:
        vectors = torch.randn((ROWS, 2, CLASSES), generator=generator())
        return said(vectors, answer="vector")
    return said(logits)


def padded_anew(value: Any, *, tokens: torch.Tensor, filling: float) -> Any:
    """Return (ROWS, TOKENS, ...) tensors and attention with something else where there is padding."""
    if isinstance(value, tuple):
        return tuple(padded_anew(item, tokens=tokens, filling=filling) for item in value)
    if value.ndim == 4:  # attention, from padding and to it
        both = tokens[:, None, :, None] & tokens[:, None, None, :]
        return torch.where(both, value, filling)
    return torch.where(tokens[:, :, None], value, filling)


@pytest.fixture(params=LOSSES.kinds)
def loss(request) -> Loss:
    return LOSSES[request.param].model_validate({"kind": request.param})


def test_it_is_a_finite_scalar_with_a_gradient(loss):
    given = case(loss)
    for tensor in inside(given.student):
        tensor.requires_grad_()
    value = given.value(loss)
    assert value.shape == ()
    assert math.isfinite(value.item())
    value.backward()
    gradients = [tensor.grad for tensor in inside(given.student) if tensor.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


def test_the_teacher_learns_nothing(loss):
    given = case(loss)
    for tensor in inside(given.teacher):
        tensor.requires_grad_()
    assert not given.value(loss).requires_grad


def test_parts_weighted_by_their_size_make_the_whole(loss):
    """What lets the loop cut a batch into micro-batches."""
    if loss.needs_whole_batch:
        pytest.skip("it says itself that its batches cannot be cut")
    given = case(loss)
    units = given.batch.units_B
    first, rest = given.rows(slice(2)).value(loss), given.rows(slice(2, None)).value(loss)
    parts = (units[:2].sum() * first + units[2:].sum() * rest) / units.sum()
    torch.testing.assert_close(given.value(loss), parts)


def test_the_order_of_a_batch_does_not_matter(loss):
    given = case(loss)
    backwards = given.rows(torch.arange(ROWS - 1, -1, -1))
    torch.testing.assert_close(given.value(loss), backwards.value(loss))


def test_what_is_padding_changes_nothing(loss):
    given = case(loss)
    tokens = given.batch.mask_BT.bool()

    def changed(outputs: Outputs, filling: float) -> Outputs:
        parts = {name: getattr(outputs, name) for name in ("hidden", "attentions", "relations")}
        anew = {n: padded_anew(v, tokens=tokens, filling=filling) for n, v in parts.items()}
        return replace(outputs, **anew)

    other = replace(
        given, student=changed(given.student, 0.25), teacher=changed(given.teacher, 0.75)
    )
    torch.testing.assert_close(given.value(loss), other.value(loss))


def test_it_is_least_where_the_student_says_what_the_teacher_says(loss):
    if not loss.needs_teacher:
        pytest.skip("it has no teacher")
    given = case(loss)
    agreed = replace(given, student=given.teacher).value(loss)
    assert agreed < given.value(loss)
    if not loss.needs_whole_batch:
        assert agreed.item() == pytest.approx(0, abs=1e-6)


def test_it_says_what_it_reads(loss):
    """It gets no more than that."""
    given = case(loss)
    needs = {
        "hidden": loss.needs_hidden,
        "attentions": loss.needs_attentions,
        "relations": loss.needs_relations,
    }
    assert internals([loss]) == {name for name, is_needed in needs.items() if is_needed}
    missing = {name: None for name, is_needed in needs.items() if not is_needed}
    less = replace(
        given, student=replace(given.student, **missing), teacher=replace(given.teacher, **missing)
    )
    torch.testing.assert_close(given.value(loss), less.value(loss))
    if any(needs.values()):
        assert loss.same_tokens
        assert loss.needs_teacher


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
