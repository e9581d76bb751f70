"""A table of word vectors, made without training: what the teacher says of each entry of its vocabulary.

Source: Tulkens & van Dongen 2024, model2vec (github.com/MinishLab/model2vec). What each step is worth on
held-out pairs is in docs/distillation.md.

Shapes: V entries, H the teacher's width, D the table's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from app.adapt.embeddings import reduce
from app.adapt.student import Material, Student
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZE = 256
# Entries that tokenizers keep in reserve and no text has.
RESERVED = re.compile(r"\[unused\d+\]|<unused\d+>|<extra_id_\d+>|madeupword\d+")
PRIOR_TOKENS = 3e6  # how many tokens the law of ranks counts for beside those of the texts
TEXTS_AT_ONCE = 1_000


class Static(Student):
    """A table of vectors, one for each entry of the teacher's vocabulary; a text is the mean of its own.

    v_t = w_t PCA(teacher(t)), where the teacher's last states are mean-pooled over an entry read by itself,
    and w_t = a / (a + p_t) makes frequent tokens count less (Arora et al. 2017, eq. 1).
    """

    kind: Literal["static"] = "static"
    needs_teacher: ClassVar[bool] = True

    size: int | Literal["auto"] = Field(
        default="auto",
        description="Width of the vectors; auto: 256, or what a narrower teacher has.",
    )
    remove_components: int = Field(
        default=8,
        ge=0,
        le=64,
        description="How many of the first principal components are left out: what all entries share.",
    )
    weighting: Literal["rank", "texts", "none"] = Field(
        default="rank",
        description="What tells how frequent a token is: its place in the vocabulary, by Zipf's law, or "
        "the training texts too, which count for more the more of them there are.",
    )
    sif_coefficient: float = Field(
        default=1e-4, gt=0, le=1, description="a of the weights a / (a + frequency)."
    )

    def make(self, folder: Path, material: Material) -> None:
        """See `Student.make`."""
        import torch
        from transformers import AutoTokenizer

        from app.adapt.architectures.features import load_encoders
        from app.adapt.architectures.static import StaticConfig, StaticModel
        from app.adapt.layers.entry_vectors import entry_vectors

        teacher = cast("Path", material.teacher)  # there is one: needs_teacher
        tokenizer: Any = AutoTokenizer.from_pretrained(teacher, local_files_only=True)
        with torch.random.fork_rng(devices=[]):  # loading draws what the teacher has no weights for
            encoder = load_encoders([teacher])[0]
        size = self._size_within(int(encoder.config.hidden_size))
        spoken = _spoken(tokenizer)
        vectors_VH = entry_vectors(encoder, spoken, *_frame(tokenizer))
        vectors_VD = reduce(vectors_VH, size, skip=self.remove_components)
        vectors_VD *= self._weights(tokenizer, spoken, material.texts)[:, None]
        num_entries = max(tokenizer.get_vocab().values()) + 1
        config = StaticConfig(
            vocab_size=num_entries,
            hidden_size=size,
            silent_ids=sorted(tokenizer.all_special_ids),
            pad_token_id=tokenizer.pad_token_id,
        )
        table_VD = torch.zeros(num_entries, size)
        table_VD[torch.tensor(spoken)] = torch.from_numpy(vectors_VD)
        with torch.device("meta"):
            network = StaticModel(config)
        network.embedding.weight = torch.nn.Parameter(table_VD)
        network.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)

    def _size_within(self, width: int) -> int:
        room = width - self.remove_components
        if room < 1:
            message = f"the teacher's vectors have {width} components, and all would be removed"
            raise InvalidSpec(message, param="remove_components")
        if self.size == "auto":
            return min(SIZE, room)
        if not 1 <= self.size <= room:
            message = (
                f"size must be 1 to {room}: the teacher's vectors have {width} components, of which "
                f"{self.remove_components} are removed"
            )
            raise InvalidSpec(message, param="size")
        return self.size

    def _weights(
        self, tokenizer: PreTrainedTokenizerBase, spoken: list[int], texts: Iterable[str]
    ) -> NDArray[np.float32]:
        """Return w (V,) of the spoken entries.

        By rank r from 0, p_r = 1 / (r + 2) / Z, as vocabularies are sorted by frequency. By the texts,
        p = (n + m p_r) / (N + m), with n of N tokens counted and m those that the ranks stand for.
        """
        if self.weighting == "none":
            return np.ones(len(spoken), dtype=np.float32)
        shares_V = 1 / np.arange(2, len(spoken) + 2)
        shares_V /= shares_V.sum()
        if self.weighting == "texts":
            counts_V = _counts(tokenizer, texts)[spoken]
            shares_V = (counts_V + PRIOR_TOKENS * shares_V) / (counts_V.sum() + PRIOR_TOKENS)
        return (self.sif_coefficient / (self.sif_coefficient + shares_V)).astype(np.float32)


def _spoken(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of the entries that texts are made of, in order."""
    special = set(tokenizer.all_special_ids)
    return sorted(
        id_
        for token, id_ in tokenizer.get_vocab().items()
        if id_ not in special and not RESERVED.fullmatch(token)
    )


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return what the tokenizer puts before and after a text."""
    whole: list[int] = tokenizer("a")["input_ids"]
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _counts(tokenizer: Any, texts: Iterable[str]) -> NDArray[np.int64]:
    """Return how often each id is in the texts."""
    counts_V = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64)
    for chunk in _chunks(texts):
        for ids in tokenizer(chunk, add_special_tokens=False, return_attention_mask=False)[
            "input_ids"
        ]:
            np.add.at(counts_V, ids, 1)
    return counts_V


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(islice(iterator, TEXTS_AT_ONCE)):
        yield chunk
