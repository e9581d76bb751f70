"""Losses of a teacher against slow references in plain Python, and what must hold whatever the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from app.adapt.losses.contrastive_distillation import ContrastiveDistillation
from app.adapt.losses.embedding_cosine import EmbeddingCosine
from app.adapt.losses.jensen_shannon import JensenShannon
from app.adapt.losses.kl_divergence import KlDivergence
from app.adapt.losses.logit_mse import LogitMse
from app.adapt.losses.reverse_kl import ReverseKl
from tests.said import CLASSES, LENGTHS, ROWS, TOKENS, UNITS, Said, said

T = 2.0
Shares = list[float]
Divergence = Callable[[Shares, Shares], float]  # of the teacher's and the student's


def drawn(*shape: int, seed: int = 3) -> torch.Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shares(logits: Shares, temperature: float = T) -> Shares:
    weights = [math.exp(z / temperature) for z in logits]
    return [weight / sum(weights) for weight in weights]


def kl(p: Shares, q: Shares) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def jsd(beta: float) -> Divergence:
    def of(g: Shares, f: Shares) -> float:
        m = [beta * a + (1 - beta) * b for a, b in zip(g, f, strict=True)]
        return beta * kl(g, m) + (1 - beta) * kl(f, m)

    return of


DIVERGENCES = [
    pytest.param(KlDivergence(temperature=T), kl, id="kl"),
    pytest.param(ReverseKl(temperature=T), lambda g, f: kl(f, g), id="reverse"),
    pytest.param(JensenShannon(temperature=T), jsd(0.5), id="jsd"),
    pytest.param(JensenShannon(temperature=T, beta=0.1), jsd(0.1), id="jsd of little teacher"),
]


def mean(terms: list[float], units: tuple[int, ...] = UNITS) -> float:
    return sum(t * u for t, u in zip(terms, units, strict=True)) / sum(units)


def pairs_of(given: Said) -> list[tuple[list, list]]:
    return list(zip(given.teacher.logits.tolist(), given.student.logits.tolist(), strict=True))


@pytest.mark.parametrize(("loss", "divergence"), DIVERGENCES)
def test_of_classes_by_hand(loss, divergence):
    given = said(drawn(ROWS, CLASSES))
    expected = [T**2 * divergence(shares(g), shares(f)) for g, f in pairs_of(given)]
    assert given.value(loss).item() == pytest.approx(mean(expected), rel=1e-5)


@pytest.mark.parametrize(("loss", "divergence"), DIVERGENCES)
@pytest.mark.parametrize("has_targets", [True, False])
def test_of_tokens_by_hand(loss, divergence, has_targets):
    """With targets those of -100 do not count, without them padding."""
    target = torch.full((ROWS, TOKENS), -100)
    for row, count in enumerate(UNITS):
        target[row, 1 : 1 + count] = 0
    given = said(drawn(ROWS, TOKENS, CLASSES), target if has_targets else None)
    terms = []
    for row, (g, f) in enumerate(pairs_of(given)):
        places = range(1, 1 + UNITS[row]) if has_targets else range(LENGTHS[row])
        values = [T**2 * divergence(shares(g[t]), shares(f[t])) for t in places]
        terms.append(sum(values) / len(values))
    assert given.value(loss).item() == pytest.approx(mean(terms), rel=1e-5)


@pytest.mark.parametrize(("loss", "divergence"), DIVERGENCES)
def test_of_labels_by_hand(loss, divergence):
    given = said(drawn(ROWS, CLASSES), answer="labels")

    def both(z: float) -> Shares:
        return shares([z, 0.0])

    expected = [
        sum(T**2 * divergence(both(a), both(b)) for a, b in zip(g, f, strict=True))
        for g, f in pairs_of(given)
    ]
    assert given.value(loss).item() == pytest.approx(mean(expected), rel=1e-5)


@pytest.mark.parametrize(("loss", "divergence"), DIVERGENCES)
def test_of_spans_by_hand(loss, divergence):
    given = said(drawn(ROWS, TOKENS, 2), answer="span")
    terms = []
    for row, (g, f) in enumerate(pairs_of(given)):
        sides = [
            divergence(*(shares([z[side] for z in tokens[: LENGTHS[row]]]) for tokens in (g, f)))
            for side in (0, 1)
        ]
        terms.append(T**2 * sum(sides) / 2)
    assert given.value(loss).item() == pytest.approx(mean(terms), rel=1e-5)


@pytest.mark.parametrize(("loss", "divergence"), DIVERGENCES)
@pytest.mark.parametrize("padding", [0.0, torch.finfo(torch.float32).min, -math.inf])
def test_padding_of_spans_has_no_share_and_no_gradient(loss, divergence, padding):
    """The task's network fills it with the least number; below T = 1 that is minus infinity."""
    del divergence
    loss = loss.model_copy(update={"temperature": 0.5})
    counts = (torch.arange(TOKENS) < torch.tensor(LENGTHS)[:, None]).unsqueeze(-1)

    def filled(value: float) -> tuple[torch.Tensor, Said]:
        logits = drawn(ROWS, TOKENS, 2)
        given = said(torch.where(counts, logits, value).requires_grad_(), answer="span")
        given = replace(
            given, teacher=replace(given.teacher, logits=given.teacher.logits.where(counts, value))
        )
        return given.student.logits, given

    logits, given = filled(padding)
    _, other = filled(5.0)
    value = given.value(loss)
    torch.testing.assert_close(value, other.value(loss))
    value.backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad.masked_select(~counts) == 0).all()


@pytest.mark.parametrize(("loss", "divergence"), DIVERGENCES)
def test_sure_and_opposite_answers_are_no_overflow(loss, divergence):
    del divergence
    logits = torch.zeros((ROWS, CLASSES))
    logits[:, 0] = 1e4
    for answer in ("class", "labels"):
        given = said(logits.clone().requires_grad_(), answer=answer, taught=logits.roll(1, 1))
        value = given.value(loss)
        assert math.isfinite(value.item())
        value.backward()
        assert given.student.logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", [KlDivergence, ReverseKl, JensenShannon])
@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        ((ROWS, 1), "number"),
        ((ROWS, 2, CLASSES), "vector"),
        ((ROWS, 2, TOKENS, CLASSES), "class"),
        ((ROWS, 1), "class"),
    ],
)
def test_what_is_no_distribution_is_refused(kind, shape, answer):
    with pytest.raises(ValueError, match="compares distributions"):
        said(drawn(*shape), answer=answer).value(kind())


@pytest.mark.parametrize("loss", [KlDivergence(), ReverseKl(), JensenShannon(), LogitMse()])
def test_other_classes_or_tokens_are_refused(loss):
    given = said(drawn(ROWS, CLASSES), taught=drawn(ROWS, CLASSES + 1))
    with pytest.raises(ValueError, match="same classes"):
        given.value(loss)


def test_hot_kl_is_half_the_squared_distance_of_centered_logits():
    """Hinton et al. 2015, section 2.1: matching logits is a special case."""
    logits, taught = (drawn(ROWS, CLASSES, seed=seed).double() for seed in (3, 4))
    given = said(
        logits - logits.mean(1, keepdim=True), taught=taught - taught.mean(1, keepdim=True)
    )
    distance = given.value(LogitMse())
    for loss in (KlDivergence(temperature=300), ReverseKl(temperature=300)):
        torch.testing.assert_close(given.value(loss), distance / 2, rtol=0.02, atol=0)
    # A quarter of that for the mixture, by the second order of each half.
    torch.testing.assert_close(
        given.value(JensenShannon(temperature=100)), distance / 8, rtol=0.02, atol=0
    )


def test_jensen_shannon_is_symmetric_at_one_half_and_bounded():
    given = said(drawn(ROWS, CLASSES))
    turned = replace(given, student=given.teacher, teacher=given.student)
    torch.testing.assert_close(given.value(JensenShannon()), turned.value(JensenShannon()))
    aside = JensenShannon(beta=0.3)
    assert given.value(aside).item() != pytest.approx(turned.value(aside).item(), rel=1e-3)
    logits = torch.zeros((ROWS, CLASSES))
    logits[:, 0] = 100.0
    apart = said(logits, taught=logits.roll(1, 1))
    assert apart.value(JensenShannon()).item() == pytest.approx(math.log(2), rel=1e-6)
    most = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert apart.value(aside).item() == pytest.approx(most, rel=1e-6)


def test_jensen_shannon_tends_to_each_divergence():
    given = said(drawn(ROWS, CLASSES))
    small = 1e-3
    forward, backward = given.value(KlDivergence()), given.value(ReverseKl())
    near_0, near_1 = (given.value(JensenShannon(beta=beta)) for beta in (small, 1 - small))
    torch.testing.assert_close(near_0 / small, forward, rtol=0.02, atol=0)
    torch.testing.assert_close(near_1 / small, backward, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("shape", "answer"),
    [((ROWS, CLASSES), "class"), ((ROWS, CLASSES), "labels"), ((ROWS, 1), "number")],
)
def test_logit_mse_by_hand(shape, answer):
    given = said(drawn(*shape), answer=answer)
    expected = [
        sum((a - b) ** 2 for a, b in zip(g, f, strict=True)) / shape[1] for g, f in pairs_of(given)
    ]
    assert given.value(LogitMse()).item() == pytest.approx(mean(expected), rel=1e-5)


@pytest.mark.parametrize("answer", ["class", "span"])
def test_logit_mse_of_tokens_by_hand(answer):
    given = said(drawn(ROWS, TOKENS, 2), answer=answer)
    terms = []
    for row, (g, f) in enumerate(pairs_of(given)):
        values = [(g[t][c] - f[t][c]) ** 2 for t in range(LENGTHS[row]) for c in (0, 1)]
        terms.append(sum(values) / len(values))
    assert given.value(LogitMse()).item() == pytest.approx(mean(terms), rel=1e-5)


def test_logit_mse_leaves_vectors_to_others():
    with pytest.raises(ValueError, match="vector answers"):
        said(drawn(ROWS, 2, CLASSES), answer="vector").value(LogitMse())


def cosine(a: Shares, b: Shares) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def with_a_row_of_one_text() -> Said:
    """Of pairs, the fourth row has no second text: its vectors are zeros, as the task's network has it."""
    given = said(drawn(ROWS, 2, CLASSES), answer="vector")
    for outputs in (given.student, given.teacher):
        outputs.logits[3, 1] = 0.0
    return given


def texts(row: int) -> range:
    return range(1 if row == 3 else 2)


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_embedding_cosine_by_hand(distance):
    given = with_a_row_of_one_text()
    terms = []
    for row, (g, f) in enumerate(pairs_of(given)):
        values = [
            1 - cosine(g[s], f[s])
            if distance == "cosine"
            else sum((a - b) ** 2 for a, b in zip(g[s], f[s], strict=True)) / CLASSES
            for s in texts(row)
        ]
        terms.append(sum(values) / len(values))
    value = given.value(EmbeddingCosine(distance=distance))
    assert value.item() == pytest.approx(mean(terms), rel=1e-5)


def test_contrastive_distillation_by_hand():
    given = with_a_row_of_one_text()
    given.teacher.logits[5, 0] = given.teacher.logits[0, 1]  # one text in two rows
    places = [(row, s) for row in range(ROWS) for s in texts(row)]
    g, f = given.teacher.logits.tolist(), given.student.logits.tolist()
    same = {((5, 0), (0, 1)), ((0, 1), (5, 0))}
    terms = []
    for i in places:
        others = [j for j in places if j == i or (j[0] != i[0] and (i, j) not in same)]
        z = {j: cosine(f[i[0]][i[1]], g[j[0]][j[1]]) / 0.5 for j in others}
        terms.append(math.log(sum(map(math.exp, z.values()))) - z[i])
    value = given.value(ContrastiveDistillation(temperature=0.5))
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("kind", [EmbeddingCosine, ContrastiveDistillation])
def test_losses_of_vectors_refuse_classes(kind):
    with pytest.raises(ValueError, match="vectors of texts"):
        said(drawn(ROWS, CLASSES)).value(kind())


@pytest.mark.parametrize(
    "loss", [EmbeddingCosine(), EmbeddingCosine(distance="mse"), ContrastiveDistillation()]
)
def test_vectors_of_two_widths_are_brought_together(loss):
    given = said(drawn(ROWS, 2, CLASSES), answer="vector", taught=drawn(ROWS, 2, 7, seed=8))
    torch.manual_seed(0)
    learned = loss.prepare(given.student, given.teacher)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = replace(given, student=learned(given.student)).value(loss)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]
    same = replace(given, teacher=given.student)
    assert loss.prepare(same.student, same.teacher) is None
