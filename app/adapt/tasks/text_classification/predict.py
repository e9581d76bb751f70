"""From a predict request's input to an example, and from logits to the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from app.adapt.rows import log_softmax
from app.adapt.task import Example, Parameters
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from app.adapt.task import Scores

PAIR = 2
DIGITS = 6


class ClassificationParameters(Parameters):
    """Options of a predict call, named as the Hub's pipelines name them."""

    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="How many labels to return, best first; null: all."
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        default=None, description="null: softmax for one label, sigmoid for several."
    )


def parse_input(value: Any, index: int, *, is_pair: bool) -> Example:
    """Take a string, `{"text": ..., "text_pair": ...}` or `[first, second]`."""
    where = f"inputs.{index}"
    first, second = value, None
    if isinstance(value, dict):
        unknown = sorted(set(value) - {"text", "text_pair"})
        if unknown:
            message = f"{where}: unknown field {unknown[0]!r}; known are 'text' and 'text_pair'"
            raise InvalidRequest(message, param=f"{where}.{unknown[0]}")
        first, second = value.get("text"), value.get("text_pair")
    elif isinstance(value, list) and len(value) == PAIR:
        first, second = value
    if not isinstance(first, str) or not first.strip():
        message = f"{where}: a non-empty text is needed"
        raise InvalidRequest(message, param=where)
    inputs = {"text": first}
    if is_pair:
        if not isinstance(second, str) or not second.strip():
            message = f'{where}: this model reads two texts: {{"text": ..., "text_pair": ...}}'
            raise InvalidRequest(message, param=where)
        inputs["text_pair"] = second
    elif second is not None:
        message = f"{where}: this model reads one text, not two"
        raise InvalidRequest(message, param=where)
    return Example(row=index, inputs=inputs)


def decode(
    scores: Scores, problem: str, labels: list[str], threshold: float, parameters: Any
) -> dict[str, Any]:
    """Turn the logits (C,) of one input into its answer; `scores` come best first."""
    if problem == "regression":
        return {"score": round(float(scores[0]), DIGITS)}
    function = parameters.function_to_apply or (
        "softmax" if problem == "single_label" else "sigmoid"
    )
    values = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda x: x}[function](scores)
    order = np.argsort(-values, kind="stable")
    ranked = [{"label": labels[i], "score": round(float(values[i]), DIGITS)} for i in order]
    answer: dict[str, Any] = {"label": ranked[0]["label"], "score": ranked[0]["score"]}
    if problem == "multi_label":
        probabilities = sigmoid(scores)
        answer = {"labels": [labels[i] for i in order if probabilities[i] >= threshold]}
    return answer | {"scores": ranked[: parameters.top_k]}


def row_loss(scores: Scores, target: Any, problem: str) -> float:
    """Return the loss of the logits z (C,) of one row.

    Single label: -log softmax(z)[y]. Multi-label: the mean over labels of log(1 + exp(-z)) where the
    label holds, and log(1 + exp(z)) where not. Regression: (z - y)^2.
    """
    match problem:
        case "single_label":
            return -float(log_softmax(scores)[target])
        case "multi_label":
            signs = np.ones(len(scores))
            signs[target] = -1.0
            return float(np.logaddexp(0.0, signs * scores).mean())
        case _:
            return (float(scores[0]) - float(target)) ** 2


def softmax(scores: Scores) -> Scores:
    """Return exp(x_i) / sum_j exp(x_j) along the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(scores: Scores) -> Scores:
    """Return 1 / (1 + exp(-x)), computed without overflow."""
    return np.where(
        scores >= 0, 1 / (1 + np.exp(-np.abs(scores))), 1 - 1 / (1 + np.exp(-np.abs(scores)))
    ).astype(scores.dtype)
