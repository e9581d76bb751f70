"""The objective contract: what is hidden of a piece of text, and has to be found again. Torch-free.

An objective makes a row of the training from consecutive tokens of the corpus and a random generator
that is seeded for this row in this epoch: the same row is made again whenever it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from app.adapt.outputs import Encoded
from app.adapt.piece_table import PieceTable
from app.adapt.task import Architecture, Network
from app.kit.registry import Plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

IGNORED = -100  # a token that is no target


class Objective(Plugin, ABC):
    """A way of learning from text alone. Subclass it in one file under `objectives/`."""

    architecture: ClassVar[Architecture]

    @abstractmethod
    def task(self) -> dict[str, Any]:
        """Return the config of the task that the finished model does."""

    @abstractmethod
    def check(self, pieces: PieceTable, max_length: int) -> None:
        """Refuse a tokenizer that this cannot be done with.

        Raises:
            InvalidSpec: it has no mask token, too few sentinels, ...
        """

    @abstractmethod
    def ends(self, pieces: PieceTable) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens that stand before and after each document of the corpus."""

    @abstractmethod
    def room(self, pieces: PieceTable, max_length: int) -> int:
        """Return how many tokens of the corpus make a row whose longest sequence has `max_length`."""

    def width(self, pieces: PieceTable, max_length: int) -> int:
        """Return how many tokens a full row has, in all of its sequences; default: `max_length`."""
        del pieces
        return max_length

    @abstractmethod
    def row(
        self,
        tokens: Ids,
        starts: Ids,
        pieces: PieceTable,
        draw: np.random.Generator,
        *,
        apart: bool,
    ) -> Encoded:
        """Return the row of consecutive tokens; `starts` are the places in it where documents begin.

        With `apart`, documents shall not see each other; only objectives that `separates` are asked to.
        `units` is the number of targets, which is never 0.
        """

    @property
    def separates(self) -> bool | None:
        """Say whether documents in a row are to be kept apart; None: where the network can."""
        return False

    @abstractmethod
    def network(self) -> Network:
        """Return the torch half that makes batches of such rows and runs the network on them."""
