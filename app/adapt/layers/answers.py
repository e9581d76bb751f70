"""Two networks' answers as distributions, and the means that losses of a teacher are made of.

Legend: B rows, T tokens, C classes, K outcomes of a distribution, N sequences (B, or several a row).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from app.adapt.layers.top_tokens import cut
from app.adapt.outputs import Batch, Outputs

IGNORED = -100
ONE_A_ROW, ONE_A_TOKEN = 2, 3  # axes of logits


def log_shares(student: Outputs, teacher: Outputs, temperature: float) -> tuple[Tensor, Tensor]:
    """Return both networks' log-probabilities at a temperature; the teacher's pass no gradient on.

    (B, C) and (B, T, C) for classes, (B, C, 2) for labels that hold or not, (B, 2, T) for spans: first
    and last token. Of a span's tokens, padding has 0 in both: a term p (log p - log q) is 0 there.
    (B, T, K + 1) where only the teacher's likeliest tokens are known.

    Raises:
        ValueError: the answers are no distributions, or not over the same things.
    """
    if teacher.top_ids is not None:
        ours = cut(F.log_softmax(student.logits.float(), dim=-1), teacher.top_ids)
        theirs = teacher.logits.detach() / temperature
        return F.log_softmax(ours / temperature, dim=-1), F.log_softmax(theirs, dim=-1)
    same_answers(student, teacher)
    return _log_shares(student, student.logits, temperature), _log_shares(
        student, teacher.logits.detach(), temperature
    )


def _log_shares(outputs: Outputs, logits: Tensor, temperature: float) -> Tensor:
    scaled = logits.float() / temperature
    match outputs.answer:
        case "class" if scaled.ndim in {ONE_A_ROW, ONE_A_TOKEN} and scaled.shape[-1] > 1:
            return F.log_softmax(scaled, dim=-1)
        case "labels":
            return F.logsigmoid(torch.stack([scaled, -scaled], dim=-1))
        case "span":
            padding_B1T = (outputs.mask_BT == 0).unsqueeze(1)
            logits_B2T = scaled.transpose(1, 2).masked_fill(padding_B1T, -torch.inf)
            return F.log_softmax(logits_B2T, dim=-1).masked_fill(padding_B1T, 0.0)
        case _:
            shape = tuple(logits.shape)
            message = f"it compares distributions, and {outputs.answer} answers {shape} are none"
            raise ValueError(message)


def same_answers(student: Outputs, teacher: Outputs) -> None:
    """Refuse answers of two shapes.

    Raises:
        ValueError: they differ.
    """
    ours, theirs = tuple(student.logits.shape), tuple(teacher.logits.shape)
    if ours != theirs:
        message = (
            f"the student's answers are {ours}, the teacher's {theirs}: both need the same classes, and "
            "where there is an answer for each token, the same tokens"
        )
        raise ValueError(message)


def mean_divergence(terms: Tensor, student: Outputs, batch: Batch) -> Tensor:
    """Return the mean over answers of terms that are shaped like `log_shares`.

    Outcomes are summed, and the labels of a row; a span is the mean of its two ends.
    """
    match student.answer:
        case "labels":
            return mean_of_rows(terms.sum((-2, -1)), batch)
        case "span":
            return mean_of_rows(terms.sum(-1).mean(-1), batch)
        case _:
            return mean_of_answers(terms.sum(-1), batch)


def mean_of_answers(terms: Tensor, batch: Batch) -> Tensor:
    """Return the mean of (B,) terms, one a row, or of (B, T) terms, one a token that counts.

    With targets, tokens of target -100 do not count; without, those that are padding.
    """
    if terms.ndim == 1:
        return mean_of_rows(terms, batch)
    target = batch.target
    if target is None or target.shape != terms.shape:
        return mean_of_tokens(terms, batch.mask_BT != 0, batch)
    return mean_of_tokens(terms, target != IGNORED, batch)


def mean_of_tokens(terms_NT: Tensor, counts_NT: Tensor, batch: Batch) -> Tensor:
    """Return the mean of rows, each the mean of its tokens that count."""
    sums_N = torch.where(counts_NT, terms_NT, 0.0).sum(1)
    return mean_of_rows(sums_N / counts_NT.sum(1).clamp(min=1), batch)


def mean_of_rows(terms_N: Tensor, batch: Batch) -> Tensor:
    """Return sum_n u_n l_n / sum_n u_n, u the row's share of targets, for all sequences of a row alike."""
    units_B = batch.units_B
    if units_B is None or len(terms_N) % len(units_B):
        return terms_N.mean()
    units_N = units_B.to(terms_N.dtype).repeat_interleave(len(terms_N) // len(units_B))
    return (terms_N * units_N).sum() / units_N.sum().clamp(min=1)
