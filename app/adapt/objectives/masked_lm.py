"""Masked language modelling: hidden tokens, or whole words, are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from app.adapt.objective import IGNORED, Objective
from app.adapt.outputs import Encoded
from app.adapt.task import Architecture
from app.errors import InvalidSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.adapt.objective import Ids
    from app.adapt.piece_table import PieceTable
    from app.adapt.task import Network

HIDDEN, CHANGED = 0.8, 0.9  # 80 % become the mask, 10 % another token, 10 % stay


class MaskedLm(Objective):
    """Hide `rate` of the tokens, others in each epoch. Source: Devlin et al. 2019 (arXiv 1810.04805), A.1.

    Dynamic masking and rows that run over the ends of documents, with a separator between, are RoBERTa's
    (Liu et al. 2019, arXiv 1907.11692, 4.1 and 4.2, FULL-SENTENCES). `whole_word` hides all pieces of a
    word or none, as Google's whole-word models of 2019 do; each piece's fate is drawn by itself.
    """

    architecture: ClassVar[Architecture] = "encoder"
    kind: Literal["masked_lm"] = "masked_lm"
    rate: float = Field(default=0.15, gt=0, lt=1, description="Share of the tokens that is hidden.")
    whole_word: bool = Field(default=False, description="All pieces of a word are hidden, or none.")

    def task(self) -> dict[str, Any]:
        """See `Objective.task`."""
        return {"kind": "fill-mask", "mask_share": self.rate}

    def check(self, pieces: PieceTable, max_length: int) -> None:
        """See `Objective.check`."""
        del max_length
        if pieces.mask is None:
            message = "model: its tokenizer has no mask token, so it cannot do masked_lm"
            raise InvalidSpec(message, param="model", code="model_does_not_fit")

    def ends(self, pieces: PieceTable) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A separator after each document."""
        return (), (() if pieces.separator is None else (pieces.separator,))

    def room(self, pieces: PieceTable, max_length: int) -> int:
        """All but the tokens around a text."""
        return max_length - len(pieces.first) - len(pieces.last)

    def row(
        self,
        tokens: Ids,
        starts: Ids,
        pieces: PieceTable,
        draw: np.random.Generator,
        *,
        apart: bool,
    ) -> Encoded:
        """See `Objective.row`."""
        import numpy as np

        del apart
        if pieces.last and len(tokens) > 1 and tokens[-1] == pieces.last[0]:
            tokens = tokens[:-1]  # it is put there anyway
        may_hide_T = ~pieces.is_special_V[tokens]
        if not may_hide_T.any():
            may_hide_T[:] = True  # unknown words only
        wanted = max(1, round(int(may_hide_T.sum()) * self.rate))
        if self.whole_word:
            chosen = _words(tokens, starts, may_hide_T, pieces, draw, wanted)
        else:
            chosen = draw.permutation(np.flatnonzero(may_hide_T))[:wanted]
        ids = tokens.copy()
        target = np.full_like(ids, IGNORED)
        target[chosen] = ids[chosen]
        luck, plain = draw.random(len(chosen)), pieces.plain
        ids[chosen[luck < HIDDEN]] = cast("int", pieces.mask)  # `check` has seen it
        changed = chosen[(luck >= HIDDEN) & (luck < CHANGED)]
        ids[changed] = plain[draw.integers(0, len(plain), len(changed))]
        ignored_before, ignored_after = [IGNORED] * len(pieces.first), [IGNORED] * len(pieces.last)
        return Encoded(
            [*pieces.first, *ids.tolist(), *pieces.last],
            target=[*ignored_before, *target.tolist(), *ignored_after],
            units=len(chosen),
        )

    def network(self) -> Network:
        """See `Objective.network`."""
        from app.adapt.layers.pretraining import TokenNetwork

        return TokenNetwork()


def _words(
    tokens: Ids, starts: Ids, may_hide_T: NDArray[np.bool_], pieces: PieceTable,
    draw: np.random.Generator, wanted: int,
) -> Ids:  # fmt: skip
    """Return the places of whole words, drawn until `wanted` tokens are hidden; more for one word only.

    A word that would be too much is passed over for shorter ones, as Google's code does.
    """
    import numpy as np

    begins_T = pieces.starts_word_V[tokens] | ~may_hide_T
    begins_T[0] = True
    begins_T[starts] = True
    begins_T[1:] |= ~may_hide_T[:-1]
    edges = np.append(np.flatnonzero(begins_T), len(tokens))
    words = np.flatnonzero(may_hide_T[edges[:-1]])
    sizes = np.diff(edges)
    chosen: list[int] = []
    left = wanted
    for word in draw.permutation(words):
        if sizes[word] <= left:
            chosen += range(edges[word], edges[word + 1])
            left -= int(sizes[word])
        if not left:
            break
    if not chosen:  # each word is longer than that: the shortest
        word = words[np.argmin(sizes[words])]
        chosen += range(edges[word], edges[word + 1])
    return np.array(sorted(chosen), dtype=np.int64)
