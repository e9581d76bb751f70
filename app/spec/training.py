"""What every kind of job says that trains a network for one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from app.adapt.dataset import resolve_columns
from app.adapt.method import Method
from app.adapt.plugins import METHODS, AnyLoss, AnyTask
from app.kit.registry import expand_kind
from app.spec.base import BaseSpec, Sides
from app.spec.choice import AutoMethod
from app.spec.data import Data
from app.spec.optimization import Optimization

if TYPE_CHECKING:
    ChosenMethod = Method | AutoMethod
else:
    ChosenMethod: Any = Annotated[METHODS.union(AutoMethod), BeforeValidator(expand_kind)]


class Stepwise(BaseSpec):
    """How weights move: what every kind of job says that has optimizer steps."""

    method: ChosenMethod = Field(default_factory=METHODS["full"])
    optimization: Optimization = Optimization()

    @property
    def chosen_method(self) -> Method:
        """The method, once it is chosen."""
        if isinstance(self.method, AutoMethod):
            message = "the method has not been chosen"
            raise AssertionError(message)  # noqa: TRY004 - our own bug, not a wrong type
        return self.method


class Training(Stepwise):
    """Which task, on which data, by which method and with which objective."""

    task: AnyTask
    data: Data
    losses: list[AnyLoss] | None = Field(
        default=None, min_length=1, description="The objective; null: the task's own loss."
    )

    def sets(self) -> dict[str, Sides]:
        """Return the files of each set of data, by the path of the field that names it."""
        return {f"data.{name}": sides for name, sides in self.data.sets().items()}

    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """See `BaseSpec.check_set`."""
        columns = resolve_columns(self.task, found, self.data.columns, filename)
        if field == "data.train" and summary:
            self.task.check_summary(columns, summary, filename)
