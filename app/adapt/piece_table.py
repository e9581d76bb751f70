"""What an objective knows of a tokenizer: which ids begin words, which are special. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

METASPACE, BYTE_SPACE = (
    "▁",
    "Ġ",
)  # how SentencePiece and byte-level BPE write the space before a word
SENTINEL = "<extra_id_{}>"


@dataclass(frozen=True)
class PieceTable:
    """The ids of a vocabulary of V pieces.

    `first` and `last` stand around a text as the tokenizer puts them; `sentinels` in T5's order.
    """

    is_special_V: NDArray[np.bool_]
    starts_word_V: NDArray[np.bool_]
    first: tuple[int, ...]
    last: tuple[int, ...]
    mask: int | None
    separator: int | None
    end: int | None
    unknown: int | None
    sentinels: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> PieceTable:
        """Read them off a tokenizer of transformers."""
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        size = max(vocabulary.values()) + 1
        is_special_V = np.ones(size, dtype=np.bool_)  # an id without a piece may not be drawn
        starts_word_V = np.ones(size, dtype=np.bool_)
        is_special_V[list(vocabulary.values())] = False
        is_special_V[list(tokenizer.all_special_ids)] = True
        starts = _Beginnings(tokenizer)
        for piece, id_ in vocabulary.items():
            starts_word_V[id_] = is_special_V[id_] or starts.has(piece)
        around: list[int] = tokenizer("")["input_ids"]
        opens = bool(around) and around[0] in {tokenizer.bos_token_id, tokenizer.cls_token_id}
        return cls(
            is_special_V,
            starts_word_V,
            first=tuple(around[:opens]),
            last=tuple(around[opens:]),
            mask=tokenizer.mask_token_id,
            separator=tokenizer.sep_token_id,
            end=tokenizer.eos_token_id,
            unknown=tokenizer.unk_token_id,
            sentinels=tuple(_sentinels(vocabulary)),
        )

    @property
    def plain(self) -> NDArray[np.int64]:
        """The ids that are no special ones."""
        return np.flatnonzero(~self.is_special_V)


class _Beginnings:
    """Which pieces begin a word: all but WordPiece's `##`, those with a space where spaces are marked.

    A piece with a mark in front, or none where words are marked by continuing ones. As fairseq's
    mask_whole_words and Google's WordPiece have it, punctuation that sticks to a word is part of it where
    the tokenizer keeps it there.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        described: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
        model: dict[str, Any] = described.get("model") or {}
        self.within: str | None = None
        self.mark: str | None = None
        if model.get("type") == "WordPiece":
            self.within = model.get("continuing_subword_prefix") or "##"
            return
        parts = json.dumps([described.get("pre_tokenizer"), described.get("decoder")])
        if '"Metaspace"' in parts:
            self.mark = METASPACE
        elif '"ByteLevel"' in parts:
            self.mark = BYTE_SPACE

    def has(self, piece: str) -> bool:
        if self.within is not None:
            return not piece.startswith(self.within)
        return self.mark is None or piece.startswith(self.mark)


def _sentinels(vocabulary: dict[str, int]) -> Iterator[int]:
    for number in count():
        found = vocabulary.get(SENTINEL.format(number))
        if found is None:
            return
        yield found
