"""What the recipes of all kinds of job share: what they are given, and how they begin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from app.jobs.state import Phase
from app.spec.base import BaseSpec
from workers.protocol import Assignment, DoneEvent, FinishedEvent
from workers.training.device import choose_device, make_deterministic
from workers.training.report import Report

S = TypeVar("S", bound=BaseSpec)


@dataclass(frozen=True)
class Recipe(ABC, Generic[S]):
    """One job of a kind, from its assignment to what comes of it."""

    assignment: Assignment
    spec: S
    report: Report
    should_drain: Callable[[], bool]

    @abstractmethod
    def run(self) -> FinishedEvent | DoneEvent:
        """Do the job.

        Raises:
            AttuneError: the data, a model or the training is at fault.
            Drained: asked to stop; what the next run needs has been saved.
        """

    def begin(self) -> torch.device:
        """Say that the job is looked at, and return the device, which gives the same answers each time."""
        self.report.phase(Phase.VALIDATING)
        device = choose_device(self.spec.runtime.device)
        make_deterministic()
        return device
