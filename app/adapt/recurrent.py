"""What the recurrent students share: the fields that say what one is made of. Torch-free.

How it is made is in `app.adapt.layers.recurrent_student`, which a student's `make` imports.
"""

from __future__ import annotations

from abc import ABC
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.adapt.student import Student

TEACHER = "teacher"
LEARNING_RATE = 1e-3  # of Adam; transformers want a tenth of it
RANDOM_SIZE = 300  # Tang et al. 2019, 4.2: the width of word2vec's published vectors


class Recurrent(Student, ABC):
    """Layers of recurrent cells in both directions over embeddings of words, pieces or characters.

    Source: Tang et al. 2019 (arXiv 1903.12136): one layer, 150 units a direction.
    """

    is_fresh: ClassVar[bool] = True
    full_rate: ClassVar[float | None] = LEARNING_RATE
    distance: ClassVar[str | None] = "logit_mse"  # Tang et al. 2019, 3.1
    cell: ClassVar[Literal["lstm", "gru"]]

    vocabulary: Literal["auto", "words", "characters", "teacher", "embeddings"] = Field(
        default="auto",
        description="words or characters of the training texts; teacher, embeddings: that model's pieces. "
        "auto: those of `embeddings` where that model knows the language, else characters for scripts "
        "without spaces, else words.",
    )
    vocabulary_size: int = Field(
        default=30_000,
        ge=8,
        le=1_000_000,
        description="Of words or characters: the commonest so many.",
    )
    min_count: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Of words or characters: how often one must occur. auto: once where `embeddings` has "
        "vectors for rare ones, else twice, so that the unknown word is learned.",
    )
    embeddings: str | None = Field(
        default=None, min_length=1, max_length=255,
        description='Whose input embeddings the vectors start as: "teacher", or a model\'s id; words of '
        "several pieces start as their mean. null: random.",
    )  # fmt: skip
    embedding_size: int | None = Field(
        default=None, ge=1, le=4096,
        description="Width of the vectors: of `embeddings` the main components. null: all of them, or 300.",
    )  # fmt: skip
    hidden_size: int = Field(default=150, ge=1, le=4096, description="Units of each direction.")
    num_layers: int = Field(default=1, ge=1, le=8)
    pooling: Literal["max", "mean", "last", "attention"] = Field(
        default="max", description="How the states of a text become one vector, for classification."
    )
    head_size: int | None = Field(
        default=None, ge=1, le=4096,
        description="Rectified units between that vector and the labels; null: none.",
    )  # fmt: skip
    embedding_dropout: float = Field(default=0.3, ge=0, lt=1)
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="Between layers and before the head."
    )

    @model_validator(mode="after")
    def _check_vocabulary(self) -> Self:
        if self.vocabulary == "embeddings" and self.embeddings is None:
            message = "vocabulary 'embeddings' needs a model in embeddings"
            raise ValueError(message)
        return self

    @property
    def needs_teacher(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - the fields decide
        """Say whether it takes anything from its teacher."""
        return TEACHER in {self.vocabulary, self.embeddings}

    @property
    def least_count(self) -> int:
        """How often a word or character must occur."""
        if self.min_count == "auto":
            return 2 if self.embeddings is None else 1
        return self.min_count

    def num_parameters(self) -> tuple[int, int]:
        """Return what its sizes come to with a full vocabulary, without the head."""
        width = self.embedding_size or RANDOM_SIZE
        gates = 4 if self.cell == "lstm" else 3
        inputs = [width, *[2 * self.hidden_size] * (self.num_layers - 1)]
        cells = sum(2 * gates * self.hidden_size * (size + self.hidden_size + 2) for size in inputs)
        embeddings = self.vocabulary_size * width
        return cells + embeddings, embeddings

    def model_ids(self) -> dict[str, str]:
        """Return the model whose embeddings it takes."""
        if self.embeddings in {None, TEACHER}:
            return {}
        return {"embeddings": str(self.embeddings)}
