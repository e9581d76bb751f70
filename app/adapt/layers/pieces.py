"""Text while it is written: tokens become pieces of text as soon as they are readable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

UNFINISHED = "\ufffd"  # a character of which only some bytes are there


class Pieces(BaseStreamer):
    """Gives each new piece of text to `emit`, which ends the writing by raising.

    A token is decoded with its neighbours since the last piece, because what it adds may depend on them
    (spaces, characters of several tokens); the work a token stays the same however long the text is.
    """

    def __init__(self, tokenizer: Any, emit: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._emit = emit
        self._ids: list[int] = []
        self._begin = 0  # of the tokens that are decoded together
        self._read = 0  # of them, those whose text has been given out
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take the next token; the first call brings the prompt."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._ids += value.flatten().tolist()
        before = self._decode(self._ids[self._begin : self._read])
        text = self._decode(self._ids[self._begin :])
        if len(text) > len(before) and not text.endswith(UNFINISHED):
            self._emit(text[len(before) :])
            self._begin, self._read = self._read, len(self._ids)

    def end(self) -> None:
        """Give out what was held back."""
        before = self._decode(self._ids[self._begin : self._read])
        text = self._decode(self._ids[self._begin :])
        if len(text) > len(before):
            self._emit(text[len(before) :])

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
