"""The segmenter contract: a vocabulary of pieces of words that is learned from a corpus. Torch-free.

What comes out is a tokenizer of the `tokenizers` library, which writes a `tokenizer.json` that any program
loads. The same texts give the same bytes in whatever process, so that a run that is resumed cuts texts as
the one before it did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from app.errors import InvalidSpec
from app.kit.registry import Plugin

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Segmenter(Plugin, ABC):
    """A way of cutting texts into pieces. Subclass it in one file under `segmenters/`."""

    vocabulary_size: int = Field(
        default=8_000, ge=32, le=1_000_000, description="Pieces, special ones among them."
    )
    lowercase: bool = Field(default=False, description="Texts are read in lower case.")

    @abstractmethod
    def learn(self, texts: Iterable[str], special: Sequence[str], unknown: str) -> Tokenizer:
        """Return a tokenizer whose first ids are the `special` pieces, `unknown` one of them.

        `texts` can be iterated over more than once.

        Raises:
            InvalidSpec: the vocabulary is too small for the texts' characters.
        """

    def check_size(self, needed: int, what: str) -> None:
        """Refuse a vocabulary that does not hold what it must.

        Raises:
            InvalidSpec: it is too small.
        """
        if self.vocabulary_size <= needed:
            message = (
                f"tokenizer.vocabulary_size: {self.vocabulary_size} is too small: {what} are {needed} "
                "pieces already"
            )
            raise InvalidSpec(
                message, param="tokenizer.vocabulary_size", code="vocabulary_too_small"
            )
