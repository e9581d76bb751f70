"""How many tokens examples come to, counted with a model's `tokenizer.json` alone. Torch-free.

What a task's `encode` does to them is not known here: chat templates and language codes are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.adapt.coverage import unknown_share
from app.adapt.task import Example, Task

CHARACTERS_A_TOKEN = 4
SPECIAL_TOKENS = 3
UNKNOWN = ("[UNK]", "<unk>")  # as WordPiece and SentencePiece models spell it
CHUNK = 1_000  # examples that are in memory as tokens at once
PAIR = 2


@dataclass(frozen=True, slots=True)
class Counted:
    """An example's tokens: of all its sequences, of its longest, and what its task has to say of them."""

    row: int
    total: int
    longest: int
    note: str | None = None


def estimated(task: Task, example: Example) -> Counted:
    """Guess from characters, where there is no tokenizer."""
    sizes = [
        sum(map(len, texts)) // CHARACTERS_A_TOKEN + SPECIAL_TOKENS
        for texts in task.sequences(example)
    ]
    return Counted(example.row, sum(sizes), max(sizes))


class TokenCounter:
    """Counts tokens, and on the way how many of them are unknown."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._encoder: Any = Tokenizer.from_file(str(path))
        self._encoder.no_truncation()
        self._encoder.no_padding()
        known = (self._encoder.token_to_id(name) for name in UNKNOWN)
        self._unknown_id = next((found for found in known if found is not None), None)
        self._total = self._unknown = 0

    def count(self, task: Task, examples: Sequence[Example]) -> list[Counted]:
        """Count those of each example, whose sequences are what the task says."""
        return [
            each
            for start in range(0, len(examples), CHUNK)
            for each in self._chunk(task, examples[start : start + CHUNK])
        ]

    def warning(self) -> str | None:
        """Return a warning when many tokens of what was counted are unknown."""
        return unknown_share(self._total, self._unknown)

    def _chunk(self, task: Task, examples: Sequence[Example]) -> list[Counted]:
        sequences = [task.sequences(example) for example in examples]
        # A pair is encoded as one, with the special tokens between; more texts one after the other.
        flat = [part for texts in sequences for group in texts for part in _parts(group)]
        encodings = iter(self._encoder.encode_batch(flat))
        counted: list[Counted] = []
        for example, texts in zip(examples, sequences, strict=True):
            sizes: list[int] = []
            note = None
            for group in texts:
                found = [next(encodings) for _ in _parts(group)]
                sizes.append(sum(len(encoding.ids) for encoding in found))
                self._total += sizes[-1]
                self._unknown += sum(encoding.ids.count(self._unknown_id) for encoding in found)
                if task.minds_pieces:
                    note = task.piece_note(example, found[0].offsets)
            counted.append(Counted(example.row, sum(sizes), max(sizes), note))
        return counted


def _parts(group: Sequence[str]) -> list[Any]:
    return [tuple(group)] if len(group) == PAIR else list(group)
