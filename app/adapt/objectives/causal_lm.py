"""Causal language modelling: each token is written from those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from app.adapt.objective import IGNORED, Objective
from app.adapt.outputs import Encoded
from app.adapt.task import Architecture

if TYPE_CHECKING:
    import numpy as np

    from app.adapt.objective import Ids
    from app.adapt.piece_table import PieceTable
    from app.adapt.task import Network


class CausalLm(Objective):
    """Learn every next token. Source: Radford et al. 2018, eq. 1; rows are full, as in GPT-2 and GPT-3.

    The first token of a document is no target where documents are kept apart: nothing says which it is.
    """

    architecture: ClassVar[Architecture] = "decoder"
    kind: Literal["causal_lm"] = "causal_lm"
    documents: Literal["auto", "apart", "joined"] = Field(
        default="auto",
        description="apart: none sees another in its row; joined: each sees those before it, as GPT-2 and "
        "GPT-3 learned. auto: apart where the network can (those with positions as an input).",
    )

    @property
    def separates(self) -> bool | None:
        """See `Objective.separates`."""
        return None if self.documents == "auto" else self.documents == "apart"

    def task(self) -> dict[str, Any]:
        """See `Objective.task`."""
        return {"kind": "text-generation", "form": "text"}

    def check(self, pieces: PieceTable, max_length: int) -> None:
        """Any tokenizer will do."""
        del pieces, max_length

    def ends(self, pieces: PieceTable) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As the model reads a text: its start token if it has one, and the end after it."""
        return pieces.first, (() if pieces.end is None else (pieces.end,))

    def room(self, pieces: PieceTable, max_length: int) -> int:
        """All of it."""
        del pieces
        return max_length

    def row(
        self,
        tokens: Ids,
        starts: Ids,
        pieces: PieceTable,
        draw: np.random.Generator,
        *,
        apart: bool,
    ) -> Encoded:
        """See `Objective.row`. The target at t is token t + 1; nothing is drawn."""
        import numpy as np

        del pieces, draw
        target = np.append(tokens[1:], IGNORED)
        extra: dict[str, Any] = {}
        if apart:
            begins = starts[starts > 0]
            target[begins - 1] = IGNORED
            places = np.arange(len(tokens))
            first = np.zeros_like(places)
            first[begins] = begins
            extra["positions"] = (places - np.maximum.accumulate(first)).tolist()
        units = int((target != IGNORED).sum())
        return Encoded(tokens.tolist(), target=target.tolist(), units=max(1, units), extra=extra)

    def network(self) -> Network:
        """See `Objective.network`."""
        from app.adapt.layers.pretraining import TokenNetwork

        return TokenNetwork()
