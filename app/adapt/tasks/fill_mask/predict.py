"""From a predict request's input to an example, and from scores to tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import Field

from app.adapt.task import Example, Parameters
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded

DIGITS = 6
MASKS = ("[MASK]", "<mask>")


class MaskParameters(Parameters):
    """Options of a predict call, named as the Hub's pipeline names them."""

    top_k: int = Field(default=5, ge=1, le=1_000, description="How many tokens for each mask.")
    targets: list[str] | None = Field(
        default=None, min_length=1, max_length=1_000,
        description="Only these tokens, best first; each must be one token of the model.",
    )  # fmt: skip


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
    allowed = None if parameters.targets is None else _ids_of(parameters.targets, tokenizer)
    ids = np.array(encoded.input_ids)
    found: list[list[dict[str, Any]]] = []
    for place, logits_V in zip(np.flatnonzero(ids == tokenizer.mask_token_id), scores, strict=True):
        shares_V = np.exp(logits_V - logits_V.max())
        shares_V /= shares_V.sum()
        best: list[dict[str, Any]] = []
        for token in _ranked(shares_V, allowed)[: parameters.top_k]:
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


def _ranked(shares_V: NDArray[Any], allowed: list[int] | None) -> list[int]:
    order: list[int] = np.argsort(-shares_V, kind="stable").tolist()
    return order if allowed is None else [token for token in order if token in set(allowed)]


def _ids_of(targets: list[str], tokenizer: Any) -> list[int]:
    """Return the token of each target.

    Raises:
        InvalidRequest: one is not a token.
    """
    found: list[int] = []
    for target in targets:
        ids: list[int] = tokenizer(target, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            message = f"parameters.targets: {target!r} is not one token of this model"
            raise InvalidRequest(message, param="parameters.targets")
        found += ids
    return found
