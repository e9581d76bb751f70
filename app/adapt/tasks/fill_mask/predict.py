"""From a predict request's input to an example, and from scores to tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field

from app.adapt.task import Example, Parameters
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded

DIGITS = 6
MASKS = ("[MASK]", "<mask>")


class MaskParameters(Parameters):
    """Options of a predict call, named as the Hub's pipeline names them."""

    top_k: int = Field(default=5, ge=1, le=1_000)


def parse_input(value: Any, index: int) -> Example:
    """Take a text or `{"text": ...}`."""
    where = f"inputs.{index}"
    if isinstance(value, dict) and set(cast("dict[str, Any]", value)) == {"text"}:
        value = cast("dict[str, Any]", value)["text"]
    if not isinstance(value, str) or not value.strip():
        message = f"{where}: a text with {MASKS[0]} in it is needed"
        raise InvalidRequest(message, param=where)
    return Example(index, {"text": value})


def decode(scores: Any, encoded: Encoded, parameters: MaskParameters) -> list[list[dict[str, Any]]]:
    """Return, for each mask in the row, its likeliest tokens; `scores` are (M, V) logits of the masks."""
    tokenizer: Any = encoded.extra["tokenizer"]
    ids = np.array(encoded.input_ids)
    found: list[list[dict[str, Any]]] = []
    for place, logits_V in zip(np.flatnonzero(ids == tokenizer.mask_token_id), scores, strict=True):
        shares_V = np.exp(logits_V - logits_V.max())
        shares_V /= shares_V.sum()
        best: list[dict[str, Any]] = []
        for token in np.argsort(-shares_V, kind="stable")[: parameters.top_k].tolist():
            filled = ids.copy()
            filled[place] = token
            best.append(
                {
                    "score": round(float(shares_V[token]), DIGITS),
                    "token": token,
                    "token_str": tokenizer.decode([token]),
                    "sequence": tokenizer.decode(filled.tolist(), skip_special_tokens=True),
                }
            )
        found.append(best)
    return found
