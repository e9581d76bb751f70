"""A recipe turns one kind of spec into a training run; this is the table of them."""

from __future__ import annotations

from collections.abc import Callable

from app.spec.fine_tune import FineTune
from workers.protocol import Assignment, Event, FinishedEvent
from workers.recipes.fine_tune import FineTuneRecipe
from workers.training.report import Report


def run_recipe(
    assignment: Assignment,
    spec: FineTune,
    emit: Callable[[Event], None],
    should_drain: Callable[[], bool],
) -> FinishedEvent:
    """Run the recipe of a spec's kind."""
    return FineTuneRecipe(assignment, spec, Report(emit), should_drain).run()
