"""From a predict request's input to an example, and from vectors to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.adapt.task import Example
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded

DIGITS = 6
MAX_SENTENCES = 1_000
SHAPES = ({"text"}, {"sentence1", "sentence2"}, {"source_sentence", "sentences"})


def parse_input(value: Any, index: int) -> Example:
    """Take a text, `{"sentence1", "sentence2"}`, or `{"source_sentence", "sentences": [...]}`."""
    where = f"inputs.{index}"
    entry = cast("dict[str, Any]", value) if isinstance(value, dict) else {"text": value}
    if set(entry) not in SHAPES:
        message = (
            f'{where}: send a text, {{"sentence1": ..., "sentence2": ...}}, or '
            '{"source_sentence": ..., "sentences": [...]}'
        )
        raise InvalidRequest(message, param=where)
    for name, given in entry.items():
        texts = (
            cast("list[Any]", given) if name == "sentences" and isinstance(given, list) else [given]
        )
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            message = f"{where}: non-empty texts are needed in {name}"
            raise InvalidRequest(message, param=where)
        if len(texts) > MAX_SENTENCES:
            message = f"{where}: {len(texts)} sentences are more than {MAX_SENTENCES}"
            raise InvalidRequest(message, param=f"{where}.sentences")
    return Example(index, dict(entry))


def decode(vectors_SD: NDArray[np.float32], encoded: Encoded) -> Any:
    """Return `{"embedding"}`, `{"score"}` or `{"scores"}`, cosines of the first with each other text."""
    if encoded.extra["asks"] == ["text"]:
        return {"embedding": vectors_SD[0].tolist()}
    scores = [round(float(value), DIGITS) for value in cosines(vectors_SD[:1], vectors_SD[1:])[0]]
    return {"scores": scores} if "sentences" in encoded.extra["asks"] else {"score": scores[0]}


def row_loss(vectors_SD: NDArray[np.float32], target: Any, form: str) -> float | None:
    """Return (cos(a, b) - y)^2 of a scored pair, 1 - cos(a, b) of one that belongs together."""
    if form == "labelled":
        return None
    cosine = float(cosines(vectors_SD[:1], vectors_SD[1:2])[0, 0])
    return (cosine - float(target)) ** 2 if form == "scored" else 1.0 - cosine


def cosines(left_ND: NDArray[Any], right_MD: NDArray[Any]) -> NDArray[Any]:
    """Return (N, M)."""
    left_ND = left_ND / np.linalg.norm(left_ND, axis=1, keepdims=True).clip(1e-12)
    right_MD = right_MD / np.linalg.norm(right_MD, axis=1, keepdims=True).clip(1e-12)
    return left_ND @ right_MD.T
