"""Rows of a training, made of a token file when they are asked for. Torch-free.

Row i of epoch e has index e * n + i, where n is the number of rows: what is hidden in it is drawn from
(seed, e, i) alone. So nothing of a corpus is in memory, and a run that is resumed sees what the one before
would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, overload

import numpy as np

from app.adapt.objective import Objective
from app.adapt.outputs import Encoded
from app.adapt.piece_table import PieceTable
from app.adapt.token_file import TokenFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT_SEED = 20_190_524  # of what is hidden in held-out rows, in whatever job: figures compare


class Cut(Protocol):
    """Which tokens make which row."""

    def __len__(self) -> int: ...

    def bounds(self, row: int) -> tuple[int, int]:
        """Return where a row begins and ends."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """The tokens of each row; None where all but the last have the same."""
        ...


@dataclass(frozen=True)
class Packed:
    """Rows of `room` tokens, one after the other, over the ends of documents; the last may be shorter."""

    tokens: int
    room: int

    def __len__(self) -> int:
        return math.ceil(self.tokens / self.room)

    def bounds(self, row: int) -> tuple[int, int]:
        """See `Cut.bounds`."""
        return row * self.room, min(self.tokens, (row + 1) * self.room)

    @property
    def lengths(self) -> None:
        """See `Cut.lengths`."""
        return


class Alone:
    """Each document in rows of its own, of at most `room` tokens; 16 bytes of memory for each row."""

    def __init__(self, file: TokenFile, room: int) -> None:
        starts = np.asarray(file.starts).astype(np.int64)
        sizes = np.diff(np.append(starts, len(file)))
        counts = -(-sizes // room)
        owner = np.repeat(np.arange(len(starts)), counts)
        nth = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._begins: NDArray[np.int64] = starts[owner] + nth * room
        ends = np.minimum(self._begins + room, (starts + sizes)[owner])
        self.lengths: NDArray[np.int64] = ends - self._begins

    def __len__(self) -> int:
        return len(self.lengths)

    def bounds(self, row: int) -> tuple[int, int]:
        """See `Cut.bounds`."""
        begin = int(self._begins[row])
        return begin, begin + int(self.lengths[row])


@dataclass(frozen=True)
class Rows(Sequence[Encoded]):
    """The rows of all epochs; its length is that of one."""

    file: TokenFile
    cut: Cut
    objective: Objective
    pieces: PieceTable
    seed: int
    apart: bool = False

    def __len__(self) -> int:
        return len(self.cut)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...

    @overload
    def __getitem__(self, index: slice) -> list[Encoded]: ...

    def __getitem__(self, index: int | slice) -> Encoded | list[Encoded]:
        """Make a row; an index past the first epoch's is one of a later epoch."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        epoch, row = divmod(index, len(self))
        tokens, starts = self.file.part(*self.cut.bounds(row))
        draw = np.random.Generator(np.random.PCG64([self.seed, epoch, row]))
        return self.objective.row(tokens, starts, self.pieces, draw, apart=self.apart)

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """The tokens of each row of an epoch, those around a text too; None where all have the same."""
        found = self.cut.lengths
        return None if found is None else found + len(self.pieces.first) + len(self.pieces.last)

    def spread(self, most: int) -> list[Encoded]:
        """Return the rows of the first epoch, or so many of them, evenly spread; these are in memory."""
        count = len(self)
        chosen = range(count) if count <= most else [at * count // most for at in range(most)]
        return [self[at] for at in chosen]
