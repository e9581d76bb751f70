"""Shares of a vocabulary cut to the likeliest tokens: against plain sums, and what must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from app.adapt.layers.top_tokens import REST, laid_out, likeliest, mixed
from app.adapt.losses.jensen_shannon import JensenShannon
from app.adapt.losses.kl_divergence import KlDivergence
from app.adapt.losses.logit_mse import LogitMse
from app.adapt.losses.reverse_kl import ReverseKl
from app.adapt.outputs import Batch, Outputs

B, TOKENS, V = 2, 5, 11
TARGET = torch.tensor([[-100, 3, 4, 0, -100], [1, -100, 2, -100, -100]])
PLACES = [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2)]
LOSSES = [KlDivergence(), ReverseKl(), JensenShannon(), KlDivergence(temperature=3.0)]


def drawn(seed: int) -> torch.Tensor:
    return 2 * torch.randn(B, TOKENS, V, generator=torch.Generator().manual_seed(seed))


def batch() -> Batch:
    ids = torch.zeros(B, TOKENS, dtype=torch.long)
    counts = (TARGET != -100).sum(-1)
    return Batch(ids, torch.ones_like(ids), target=TARGET, units_B=counts)


def outputs(logits: torch.Tensor) -> Outputs:
    return Outputs(logits=logits, mask_BT=torch.ones(B, TOKENS))


def cut_to(logits: torch.Tensor, count: int) -> Outputs:
    """Return a teacher's outputs as they are after being kept."""
    log_shares, ids = laid_out(likeliest(logits, TARGET, count), TARGET)
    return Outputs(logits=log_shares, mask_BT=torch.ones(B, TOKENS), top_ids=ids)


def value(loss, student: torch.Tensor, teacher: Outputs) -> float:
    return loss.compute(outputs(student), batch(), teacher).item()


def shares(logits: torch.Tensor) -> list[float]:
    weights = [math.exp(z) for z in logits.tolist()]
    return [weight / sum(weights) for weight in weights]


def test_the_likeliest_come_first_and_the_rest_is_what_is_left():
    logits = drawn(0)
    rows = likeliest(logits, TARGET, 3)
    assert [row.shape for row in rows] == [(3, 2, 4), (2, 2, 4)]
    for (b, t), found in zip(PLACES, np.concatenate(rows), strict=True):
        plain = shares(logits[b, t])
        best = sorted(range(V), key=lambda v: -plain[v])[:3]
        assert found[1].tolist() == [*best, REST]
        expected = [*(plain[v] for v in best), 1 - sum(plain[v] for v in best)]
        assert np.exp(found[0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_by_hand(temperature):
    """Of K + 1 outcomes; at a temperature their shares are raised to 1/T and made to add up again."""
    student, teacher, total = drawn(1), drawn(2), 0.0
    for b, t in PLACES:
        f, g = shares(student[b, t]), shares(teacher[b, t])
        best = sorted(range(V), key=lambda v: -g[v])[:4]
        pairs = [(f[v], g[v]) for v in best]
        pairs.append((1 - sum(p for p, _ in pairs), 1 - sum(q for _, q in pairs)))
        soft = [(p ** (1 / temperature), q ** (1 / temperature)) for p, q in pairs]
        sums = [sum(side) for side in zip(*soft, strict=True)]
        total += sum(q / sums[1] * math.log(q / sums[1] / (p / sums[0])) for p, q in soft)
    found = value(KlDivergence(temperature=temperature), student, cut_to(teacher, 4))
    assert found == pytest.approx(temperature**2 * total / len(PLACES), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("count", [1, 4, V, 100])
def test_nothing_is_lost_between_two_that_agree(loss, count):
    assert value(loss, drawn(1), cut_to(drawn(1), count)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_what_is_kept_tells_less_than_all_and_more_of_more(loss):
    student, teacher = drawn(1), drawn(2)
    whole = value(loss, student, outputs(teacher))
    found = [value(loss, student, cut_to(teacher, count)) for count in (1, 3, 6, V - 1)]
    assert all(low <= high + 1e-6 for low, high in zip(found, [*found[1:], whole], strict=True))
    assert found[-1] == pytest.approx(whole, rel=1e-4), (
        "one outcome of a single token is that token"
    )
    assert found[0] > 0


def test_gradients_reach_every_logit_of_tokens_that_count_and_no_other():
    student = drawn(1).requires_grad_()
    KlDivergence().compute(outputs(student), batch(), cut_to(drawn(2), 3)).backward()
    assert student.grad is not None
    touched = student.grad.abs().sum(-1) > 0
    assert torch.equal(touched, TARGET != -100)
    assert (student.grad[0, 1] != 0).all()
    assert student.grad.sum(-1).abs().max() < 1e-6, "shares only move between tokens"


def test_teachers_are_mixed_as_their_whole_shares_would_be():
    """With all tokens kept the mean is exact; with few, tokens outside a teacher's few count as none."""
    first, second, weights = drawn(2), drawn(3), [0.25, 0.75]
    rows = [likeliest(each, TARGET, V - 1) for each in (first, second)]
    found = np.concatenate([mixed(pair, weights) for pair in zip(*rows, strict=True)])
    for (b, t), row in zip(PLACES, found, strict=True):
        plain = [0.25 * p + 0.75 * q for p, q in zip(shares(first[b, t]), shares(second[b, t]),
                                                     strict=True)]  # fmt: skip
        got = dict(zip(row[1].astype(int).tolist(), np.exp(row[0]).tolist(), strict=True))
        rest = got.pop(REST)
        # The one token that a teacher leaves out is in its rest, not in the mean.
        known = [token for token in got if got[token] == pytest.approx(plain[token], rel=1e-3)]
        assert len(known) >= V - 3
        assert sum(got.values()) + rest == pytest.approx(1, abs=1e-5)
    few = [likeliest(each, TARGET, 2) for each in (first, second)]
    assert mixed([few[0][0], few[1][0]], weights).shape == few[0][0].shape
    alone = mixed([few[0][0]], [1.0])
    assert np.allclose(alone, few[0][0], atol=1e-5)


def test_single_logits_are_not_kept():
    with pytest.raises(ValueError, match="only the likeliest are kept"):
        value(LogitMse(), drawn(1), cut_to(drawn(2), 3))
