"""What is taken over from the source model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.kit.schema import Frozen


class Mixed(Frozen):
    """Some layers with their weights, the others of the same shape with fresh ones."""

    kind: Literal["mixed"] = "mixed"
    layers: list[str] = Field(
        min_length=1,
        max_length=256,
        description='Layers whose weights are kept: "embeddings", blocks ("0-3", "5"), or patterns of '
        'parameter names ("*.attention.*").',
    )


Transfer = Literal["parameters", "structure"] | Mixed
