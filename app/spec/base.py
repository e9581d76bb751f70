"""What every kind of job has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from app.kit.schema import Frozen
from app.spec.runtime import Execution, Runtime

ModelId = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Suffix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
MetaKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetaValue = Annotated[str, StringConstraints(max_length=512)]


Sides = dict[str | None, str]  # the file ids of a set by role; of a single file the role is None


class BaseSpec(Frozen, ABC):
    """Fields of every spec, and what the control plane asks each kind of job.

    `version` names the shape, so that stored specs parse for ever.
    """

    version: Literal[1] = 1
    metadata: dict[MetaKey, MetaValue] = Field(default={}, max_length=16)
    runtime: Execution = Execution()

    @property
    @abstractmethod
    def base(self) -> str:
        """What the job starts from: the id of a model, or the kind of network that is made."""

    @abstractmethod
    def sets(self) -> dict[str, Sides]:
        """Return the files of each set of data, by the path of the field that names it."""

    @abstractmethod
    def model_ids(self) -> dict[str, str]:
        """Return the id of every model that the job reads, by the path of the field that names it."""

    @abstractmethod
    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """Refuse at submission a set whose columns, as they were `found`, are not those it needs.

        `summary` is what the upload says of each column; empty for parallel files.

        Raises:
            InvalidData: they are not.
        """

    @property
    def kept_checkpoints(self) -> int | None:
        """How many of the newest checkpoints stay; None: all, because each is a part of the result."""
        return None

    def file_ids(self) -> list[str]:
        """Return the id of every file."""
        return [file_id for sides in self.sets().values() for file_id in sides.values()]


class ModelSpec(BaseSpec):
    """A job whose result is a model."""

    suffix: Suffix | None = Field(default=None, description="Part of the finished model's id.")
    runtime: Runtime = Runtime()  # pyright: ignore[reportIncompatibleVariableOverride] - frozen, and narrower

    @property
    def kept_checkpoints(self) -> int:
        """As `runtime` says."""
        return self.runtime.keep_checkpoints
