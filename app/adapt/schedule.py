"""Numbers of a spec that may move while a training goes on. A schedule knows a fraction, no steps."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from app.kit.schema import Frozen


class Schedule(Frozen):
    """A number that goes from `start` to `end` with the fraction f in [0, 1] of the training that is done.

    linear: start + (end - start) f; cosine: end + (start - end) (1 + cos(pi f)) / 2.
    """

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    shape: Literal["linear", "cosine"] = "linear"

    def at(self, fraction: float) -> float:
        """Return the number when this fraction of the training is done."""
        done = fraction if self.shape == "linear" else 0.5 * (1.0 - math.cos(math.pi * fraction))
        return self.start + (self.end - self.start) * done


class PositiveSchedule(Schedule):
    """A schedule that never gets to zero."""

    start: float = Field(gt=0)
    end: float = Field(gt=0)


def number(value: float | Schedule) -> float:
    """Return what is a number already; `Loss.at` makes schedules into numbers."""
    if isinstance(value, Schedule):
        message = "a schedule is a number at a fraction only"
        raise TypeError(message)
    return value


def _form(value: Any) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "number"


# A union of two would report a wrong number as a wrong schedule too.
NonNegative = Annotated[
    Annotated[float, Field(ge=0), Tag("number")] | Annotated[Schedule, Tag("schedule")],
    Discriminator(_form),
]
Positive = Annotated[
    Annotated[float, Field(gt=0), Tag("number")] | Annotated[PositiveSchedule, Tag("schedule")],
    Discriminator(_form),
]
