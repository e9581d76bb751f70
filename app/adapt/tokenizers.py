"""The tokenizers of a model: one, or one for each of the encoders that read the same texts side by side.

A folder has its first encoder's tokenizer where every model has it, those of further encoders in folders
of their own. Torch-free; transformers is imported where a tokenizer is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from app.adapt.outputs import Encoded
from app.adapt.task import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FURTHER = "tokenizer-{number}"


@dataclass(frozen=True)
class Tokenizers:
    """`first` is the model's own; `further` are those of the encoders beside it, in their order."""

    first: PreTrainedTokenizerBase
    further: Sequence[PreTrainedTokenizerBase] = ()

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Load what a model folder has."""
        further: list[PreTrainedTokenizerBase] = []
        for number in count(1):
            beside = folder / FURTHER.format(number=number)
            if not beside.is_dir():
                break
            further.append(load_tokenizer(beside))
        return cls(load_tokenizer(folder), further)

    def __iter__(self) -> Any:
        """Iterate over all of them, the first first."""
        return iter([self.first, *self.further])

    def with_first(self, tokenizer: PreTrainedTokenizerBase) -> Tokenizers:
        """Return these with another one in the first's place."""
        return self if tokenizer is self.first else replace(self, first=tokenizer)

    def encode(self, task: Task, examples: Sequence[Example], max_length: int) -> list[Encoded]:
        """Tokenize for the first encoder, and beside it for each further one, cut to its own limit."""
        rows = task.encode(self.first, examples, max_length)
        for tokenizer in self.further:
            others = task.encode(tokenizer, examples, tokenizer.model_max_length)
            rows = [
                replace(row, others=(*row.others, other.input_ids))
                for row, other in zip(rows, others, strict=True)
            ]
        return rows

    def save(self, folder: Path) -> None:
        """Write them into a model's folder."""
        cast("Any", self.first).save_pretrained(folder)
        for number, tokenizer in enumerate(self.further, start=1):
            cast("Any", tokenizer).save_pretrained(folder / FURTHER.format(number=number))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of one folder; one that has no padding pads with its end."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
