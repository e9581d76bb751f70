"""What a training goes through: a network on its stage, the data, the resolved spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from app.adapt.outputs import Encoded
from app.spec.training import Stepwise
from workers.protocol import CheckpointRef
from workers.training.evaluate import Stage
from workers.training.mixture import Mixture
from workers.training.several import SeveralStage
from workers.training.surgery import GradientSurgery


@dataclass(frozen=True)
class Course:
    """What a loop runs on: a prepared network, encoded data, a resolved spec.

    Checkpoints go to `folder`; without one there are none. Of several tasks `mixture` says how many rows
    lie one behind the other, and with `surgery` their gradients are freed of conflicts.
    """

    spec: Stepwise
    stage: Stage | SeveralStage
    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    folder: Path | None = None
    checkpoints: Sequence[CheckpointRef] = ()
    mixture: Mixture | None = None
    surgery: GradientSurgery | None = None


@dataclass(frozen=True)
class Setup(Course):
    """A course of one task."""

    stage: Stage


C = TypeVar("C", bound=Course)
