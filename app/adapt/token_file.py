"""A corpus as tokens on disk: written in one pass in bounded memory, read by position. Torch-free.

`tokens.bin` holds the ids one after the other, two bytes each where the vocabulary allows, else four;
`starts.bin` where each document begins, eight bytes each. Both are mapped into memory, not read into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.objective import Ids

TOKENS, STARTS = "tokens.bin", "starts.bin"
SMALL = 2**16
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 1_000_000


def id_type(vocabulary_size: int) -> np.dtype[Any]:
    """Return how the ids of a vocabulary are written."""
    return np.dtype("<u2" if vocabulary_size <= SMALL else "<u4")


class TokenWriter:
    """Writes the documents that it is given, a batch at a time."""

    def __init__(
        self, folder: Path, tokenizer: Any, ends: tuple[tuple[int, ...], tuple[int, ...]],
        size: int, beat: Callable[[], None],
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self._tokens = (folder / TOKENS).open("wb")
        self._starts = (folder / STARTS).open("wb")
        self._tokenizer, self._ends, self._beat = tokenizer, ends, beat
        self._type = id_type(size)
        self._texts: list[str] = []
        self._characters = 0
        self.num_tokens = self.num_documents = self.num_unknown = 0

    def add(self, text: str) -> None:
        """Take a document."""
        self._texts.append(text)
        self._characters += len(text)
        if len(self._texts) >= BATCH_DOCUMENTS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._tokens.close()
        self._starts.close()

    def _flush(self) -> None:
        if not self._texts:
            return
        self._beat()
        found = self._tokenizer(
            self._texts, add_special_tokens=False, return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        first, last = self._ends
        unknown = self._tokenizer.unk_token_id
        starts: list[int] = []
        written: list[int] = []
        for ids in found:
            if not ids:
                continue  # nothing but what the tokenizer leaves out
            starts.append(self.num_tokens + len(written))
            self.num_unknown += 0 if unknown is None else ids.count(unknown)
            written += [*first, *ids, *last]
        np.array(written, dtype=self._type).tofile(self._tokens)
        np.array(starts, dtype="<u8").tofile(self._starts)
        self.num_tokens += len(written)
        self.num_documents += len(starts)
        self._texts, self._characters = [], 0


@dataclass(frozen=True)
class TokenFile:
    """The tokens of a corpus, and where its documents begin."""

    tokens: NDArray[Any]
    starts: NDArray[np.uint64]

    @classmethod
    def open(cls, folder: Path, size: int) -> TokenFile:
        """Map what `TokenWriter` wrote for a vocabulary of this size."""
        if not (folder / TOKENS).stat().st_size:
            return cls(np.empty(0, dtype=id_type(size)), np.empty(0, dtype=np.uint64))
        return cls(
            np.memmap(folder / TOKENS, dtype=id_type(size), mode="r"),
            cast("NDArray[np.uint64]", np.memmap(folder / STARTS, dtype="<u8", mode="r")),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, begin: int, end: int) -> tuple[Ids, Ids]:
        """Return the tokens of a part, and the places in it where documents begin."""
        first, last = np.searchsorted(self.starts, np.array([begin, end], dtype=np.uint64))
        tokens = np.asarray(self.tokens[begin:end]).astype(np.int64)
        return tokens, np.asarray(self.starts[first:last]).astype(np.int64) - begin
