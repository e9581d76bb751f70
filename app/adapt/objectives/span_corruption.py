"""Span corruption: an encoder-decoder writes what sentinels stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from app.adapt.objective import Objective
from app.adapt.outputs import Encoded
from app.adapt.task import Architecture
from app.errors import InvalidSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.adapt.objective import Ids
    from app.adapt.piece_table import PieceTable
    from app.adapt.task import Network


class SpanCorruption(Objective):
    """Replace random spans, `mean_length` tokens on average and `rate` of all, by a sentinel each.

    Input: `Thank you <extra_id_0> me to your party <extra_id_1> week </s>`; target: `<extra_id_0> for
    inviting <extra_id_1> last </s>`. Source: Raffel et al. 2020 (arXiv 1910.10683), 3.3.4, and T5's
    `random_spans_noise_mask`: a row begins with what stays and ends with a span. Rows run over the ends of
    documents, which end with `</s>`.
    """

    architecture: ClassVar[Architecture] = "encoder_decoder"
    kind: Literal["span_corruption"] = "span_corruption"
    rate: float = Field(default=0.15, gt=0, lt=0.9, description="Share of the tokens in spans.")
    mean_length: float = Field(default=3.0, ge=1, le=64, description="Tokens of a span on average.")

    def task(self) -> dict[str, Any]:
        """See `Objective.task`."""
        return {"kind": "text2text-generation"}

    def check(self, pieces: PieceTable, max_length: int) -> None:
        """See `Objective.check`."""
        _, spans = self._sizes(self.room(pieces, max_length))
        if spans > len(pieces.sentinels):
            message = (
                f"objective: rows of {max_length} tokens have {spans} spans, and the tokenizer has "
                f"{len(pieces.sentinels)} sentinels (<extra_id_0>, ...)"
            )
            hint = "; take a T5, or make a network" if not pieces.sentinels else "; longer spans"
            raise InvalidSpec(message + hint, param="objective", code="model_does_not_fit")

    def ends(self, pieces: PieceTable) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The end token after each document."""
        return (), (() if pieces.end is None else (pieces.end,))

    def room(self, pieces: PieceTable, max_length: int) -> int:
        """Return the most tokens that come to `max_length` or less once they are corrupted.

        Source: `compute_input_and_target_lengths` of T5.
        """
        del pieces

        def longest(size: int) -> int:
            noise, spans = self._sizes(size)
            return max(size - noise + spans + 1, noise + spans + 1)  # of input and target

        size = 2
        while longest(size + 1) <= max_length:
            size += 1
        return size

    def width(self, pieces: PieceTable, max_length: int) -> int:
        """Return the tokens of input and target together."""
        room = self.room(pieces, max_length)
        _, spans = self._sizes(room)
        return room + 2 * spans + 2

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

        del starts, apart
        if len(tokens) == 1:
            tokens = np.append(tokens, tokens)  # a span and what is around it are two at least
        is_noise_T = self.noise(len(tokens), draw)
        end = () if pieces.end is None else (pieces.end,)
        ids = [*_with_sentinels(tokens, is_noise_T, pieces.sentinels), *end]
        target = [*_with_sentinels(tokens, ~is_noise_T, pieces.sentinels), *end]
        return Encoded(ids, target=target, others=(target,), units=len(target))

    def noise(self, length: int, draw: np.random.Generator) -> NDArray[np.bool_]:
        """Return which of the tokens are in spans: the T5 code's `random_spans_noise_mask`."""
        import numpy as np

        noise, spans = self._sizes(length)
        kept_sizes = _segments(length - noise, spans, draw)
        noise_sizes = _segments(noise, spans, draw)
        sizes = np.stack([kept_sizes, noise_sizes], axis=1).ravel()
        return np.repeat(np.arange(len(sizes)) % 2 == 1, sizes)

    def network(self) -> Network:
        """See `Objective.network`."""
        from app.adapt.layers.pretraining import SpanNetwork

        return SpanNetwork()

    def _sizes(self, length: int) -> tuple[int, int]:
        """Return how many tokens are in spans, and in how many; at least one of each, and one stays."""
        noise = min(max(round(length * self.rate), 1), length - 1)
        spans = max(round(noise / self.mean_length), 1)
        return noise, min(spans, length - noise)


def _segments(total: int, count: int, draw: np.random.Generator) -> Ids:
    """Cut `total` things into `count` runs, none of them empty, every way alike."""
    import numpy as np

    cuts = np.sort(draw.permutation(total - 1)[: count - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)


def _with_sentinels(
    tokens: Ids, is_noise_T: NDArray[np.bool_], sentinels: tuple[int, ...]
) -> list[int]:
    """Return the tokens with one sentinel in place of each run of noise."""
    import numpy as np

    begins_T = is_noise_T & ~np.concatenate([[False], is_noise_T[:-1]])
    ids = tokens.copy()
    ids[begins_T] = np.array(sentinels, dtype=np.int64)[: int(begins_T.sum())]
    return ids[~is_noise_T | begins_T].tolist()
