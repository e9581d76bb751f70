"""What every kind of job has in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.kit.schema import Frozen
from app.spec.runtime import Runtime

ModelId = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Suffix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
MetaKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetaValue = Annotated[str, StringConstraints(max_length=512)]


class BaseSpec(Frozen):
    """Fields of every spec. `version` names the shape, so that stored specs parse for ever."""

    version: Literal[1] = 1
    suffix: Suffix | None = Field(default=None, description="Part of the finished model's id.")
    metadata: dict[MetaKey, MetaValue] = Field(default={}, max_length=16)
    runtime: Runtime = Runtime()
