"""From a predict request's input to an example, and from the windows' logits to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import AliasChoices, Field

from app.adapt.rows import log_softmax
from app.adapt.task import Example, Parameters
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores

DIGITS = 6
MAX_ANSWER_LENGTH = 30  # tokens, as in the SQuAD scripts of BERT and of transformers
CANDIDATES = 20  # best starts and ends of a window that are combined


class AnswerParameters(Parameters):
    """Options of a predict call, named as the Hub's pipeline names them."""

    top_k: int = Field(default=1, ge=1, le=100, description="More than 1: a list, best first.")
    max_answer_length: int = Field(
        default=MAX_ANSWER_LENGTH, ge=1, le=512,
        validation_alias=AliasChoices("max_answer_length", "max_answer_len"),
        description="In tokens; max_answer_len is the same.",
    )  # fmt: skip
    doc_stride: int | None = Field(
        default=None, ge=1, le=4096,
        description="How many tokens the windows of a long context share, a quarter of one at most; null: "
        "as trained.",
    )  # fmt: skip
    handle_impossible_answer: bool | None = Field(
        default=None,
        description="May the answer be that there is none? null: if it was trained on such.",
    )


@dataclass(frozen=True, slots=True)
class Window:
    """What one window says: logits (T, 2) of being the answer's first and last token."""

    context: str
    offsets: list[tuple[int, int] | None]
    logits_T2: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer with the sum of its two logits; no place is no answer."""

    logit: float
    start: int = 0
    end: int = 0


def parse_input(value: Any, index: int) -> Example:
    """Take `{"question": ..., "context": ...}`."""
    where = f"inputs.{index}"
    shape = f'{where}: send {{"question": "...", "context": "..."}}'
    if not isinstance(value, dict):
        raise InvalidRequest(shape, param=where)
    entry = cast("dict[str, Any]", value)
    unknown = sorted(set(entry) - {"question", "context"})
    if unknown:
        message = f"{where}: unknown field {unknown[0]!r}; {shape}"
        raise InvalidRequest(message, param=f"{where}.{unknown[0]}")
    for name in ("question", "context"):
        text = entry.get(name)
        if not isinstance(text, str) or not text.strip():
            message = f"{where}.{name}: a non-empty text is needed"
            raise InvalidRequest(message, param=f"{where}.{name}")
    return Example(row=index, inputs={"question": entry["question"], "context": entry["context"]})


def row_loss(scores_T2: Scores, target: tuple[int, int]) -> float:
    """Return -1/2 (log softmax(z_1)[first] + log softmax(z_2)[last]) of one window."""
    return -sum(float(log_softmax(scores_T2[:, side])[at]) for side, at in enumerate(target)) / 2


def window_of(scores: Scores, encoded: Encoded) -> Window:
    """Return what a window says."""
    return Window(encoded.extra["context"], encoded.extra["offsets"], scores)


def candidates(windows: Sequence[Window], max_length: int) -> tuple[list[Candidate], Candidate]:
    """Return the best answers of all windows, best first, and the answer that there is none.

    That there is none has the sum of logits of the first token, in the window where it is least: one
    window that holds the answer is enough. Source: the SQuAD 2.0 script of Devlin et al. 2019.
    """
    best: dict[tuple[int, int], float] = {}
    for window in windows:
        inside = np.array([at for at, place in enumerate(window.offsets) if place is not None])
        if not inside.size:
            continue
        starts, ends = (
            inside[np.argsort(-window.logits_T2[inside, side], kind="stable")[:CANDIDATES]]
            for side in (0, 1)
        )
        for first in starts.tolist():
            for last in ends.tolist():
                if not first <= last < first + max_length:
                    continue
                place = _between(window.offsets, first, last)
                logit = float(window.logits_T2[first, 0] + window.logits_T2[last, 1])
                best[place] = max(logit, best.get(place, -np.inf))
    ranked = [Candidate(logit, *place) for place, logit in best.items()]
    ranked.sort(key=lambda found: (-found.logit, found.start, found.end))
    none = min(float(window.logits_T2[0].sum()) for window in windows)
    return ranked, Candidate(none)


def _between(offsets: Sequence[tuple[int, int] | None], first: int, last: int) -> tuple[int, int]:
    start, end = offsets[first], offsets[last]
    if start is None or end is None:
        message = "candidates lie inside of the context"
        raise AssertionError(message)
    return start[0], end[1]


def answer(windows: Sequence[Window], parameters: AnswerParameters, *, may_be_none: bool) -> Any:
    """Return one answer, or a list of `top_k`; the score is its share among all that were considered."""
    given = parameters.handle_impossible_answer
    ranked, none = candidates(windows, parameters.max_answer_length)
    if given if given is not None else may_be_none:
        ranked = sorted([*ranked, none], key=lambda found: -found.logit)
    if not ranked:
        ranked = [none]
    logits = np.array([found.logit for found in ranked])
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    context = windows[0].context
    answers = [
        _shown(found, float(share), context) for found, share in zip(ranked, shares, strict=True)
    ]
    return answers[0] if parameters.top_k == 1 else answers[: parameters.top_k]


def _shown(found: Candidate, share: float, context: str) -> dict[str, Any]:
    start, end = found.start, found.end
    while start < end and context[start].isspace():  # some tokenizers count a space in
        start += 1
    return {"answer": context[start:end], "score": round(share, DIGITS), "start": start, "end": end}
