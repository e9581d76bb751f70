"""A teacher's scores of one tokenization's pieces, for the pieces of another one. Torch-free."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores


def align(
    scores: Sequence[Scores], theirs: Sequence[Encoded], ours: Encoded, labels: Sequence[str]
) -> Scores:
    """Return (T, C) for our row: of each piece, what the teacher says where it begins; 0 elsewhere.

    A piece that begins inside one of the teacher's goes on with what that begins: the scores of B- and I-
    of each kind change places where B- is the greater.
    """
    places = [
        (start, end, row_TC[at])
        for row_TC, item in zip(scores, theirs, strict=True)
        for at, (start, end) in zip(item.extra["pieces"], item.extra["offsets"], strict=True)
    ]
    starts = [start for start, _, _ in places]
    pairs = [
        (labels.index(f"B-{name[2:]}"), at) for at, name in enumerate(labels) if name[:2] == "I-"
    ]
    aligned_TC = np.zeros((len(ours.input_ids), len(labels)), dtype=np.float32)
    for at, (start, _) in zip(ours.extra["pieces"], ours.extra["offsets"], strict=True):
        found = bisect_right(starts, start) - 1
        if found < 0 or not places:
            continue
        their_start, _, scores_C = places[found]
        aligned_TC[at] = scores_C
        if their_start < start:
            _go_on(aligned_TC[at], pairs)
    return aligned_TC


def _go_on(scores_C: Scores, pairs: Sequence[tuple[int, int]]) -> None:
    for begins, inside in pairs:
        if scores_C[begins] > scores_C[inside]:
            scores_C[[begins, inside]] = scores_C[[inside, begins]]
