"""What is taken over from the source model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from app.kit.schema import Frozen
from app.spec.base import ModelId


class Mixed(Frozen):
    """Some layers with their weights, the others of the same shape with fresh ones."""

    kind: Literal["mixed"] = "mixed"
    layers: list[str] = Field(
        min_length=1,
        max_length=256,
        description='Layers whose weights are kept: "embeddings", blocks ("0-3", "5"), or patterns of '
        'parameter names ("*.attention.*").',
    )


class Features(Frozen):
    """The frozen features of further encoders beside those of the job's `model`.

    A linear head is fitted on all of them side by side; each reads the text with a tokenizer of its own.
    """

    kind: Literal["features"] = "features"
    models: list[ModelId] = Field(
        min_length=1,
        max_length=7,
        description="The further encoders: base models or finished ones.",
    )


Transfer = Literal["parameters", "structure"] | Annotated[Mixed | Features, Discriminator("kind")]
