"""Method "auto": each candidate trains for a while from the source anew; the best goes on.

Trials are judged on the validation rows, never on the test set. They leave no checkpoints: a run that dies
in one begins with the first again, and comes to the same choice.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from app.adapt.method import Method
from app.errors import InvalidSpec
from app.jobs.state import Phase
from app.kit.clock import monotonic
from app.spec.choice import AutoMethod
from app.spec.resolve import num_steps
from workers.protocol import AliveEvent, Event
from workers.recipes.bench import Bench, Preparation, count
from workers.training.course import Setup
from workers.training.evaluate import evaluate
from workers.training.loop import Loop
from workers.training.report import Report

EVALUATIONS = 4


def choose_method(
    bench: Bench, auto: AutoMethod, should_drain: Any
) -> tuple[Method, list[dict[str, Any]]]:
    """Return the candidate that did best, and what each of them came to.

    Raises:
        InvalidSpec: none of them fits the task and the model.
        Drained: asked to stop; nothing has been saved.
    """
    name, greater = bench.prepared.task.primary_metric()
    bench.report.phase(Phase.TRAINING)
    quiet = replace(bench, report=silent(bench.report))
    found: list[tuple[float, Method]] = []
    trials: list[dict[str, Any]] = []
    for method in auto.candidates:
        entry: dict[str, Any] = {"method": method.name()}
        started = monotonic()
        try:
            entry |= _try(quiet, method, auto.budget, should_drain)
        except InvalidSpec as error:
            if error.error_code != "method_does_not_fit":
                raise
            bench.report.log(f"Not tried: {error.message}")
            trials.append(entry | {"passed_over": error.message})
            continue
        entry["seconds"] = round(monotonic() - started, 1)
        found.append((entry[name] if greater else -entry[name], method))
        trials.append(entry)
        bench.report.log(
            f"Tried {method.name()}: validation {name} {entry[name]:.4g} after {entry['steps']} steps, "
            f"{entry['seconds']} s",
            data=entry,
        )
    if not found:
        message = "method auto: none of the candidates fits this task and model"
        raise InvalidSpec(message, param="method.candidates", code="method_does_not_fit")
    _, chosen = max(found, key=lambda pair: pair[0])  # of equals the first, which is the cheapest
    bench.report.log(f"Method auto goes on with {chosen.name()}", data={"trials": trials})
    return chosen, trials


def _try(bench: Bench, method: Method, budget: float, should_drain: Any) -> dict[str, Any]:
    """Return the validation metrics of a short training, its steps and how many weights it moves."""
    preparation = Preparation(bench, method, keeps_checkpoints=False)
    setup = preparation.setup(0)
    entry: dict[str, Any] = {
        "trained_parameters": count(setup.stage.network, is_trained=True),
        "steps": 0,
    }
    if method.probes:
        preparation.fit_head(setup)
    if not method.steps:
        tokens = int(setup.spec.optimization.max_batch_tokens)
        return entry | evaluate(setup.stage, setup.validation, tokens).metrics
    loop = Loop(_shortened(setup, budget), bench.report, should_drain)
    state = loop.run()
    name, greater = setup.stage.task.primary_metric()
    best = state.best_value if greater else -(state.best_value or 0.0)
    return entry | {"steps": state.step, name: best}


def _shortened(setup: Setup, budget: float) -> Setup:
    optimization, runtime = setup.spec.optimization, setup.spec.runtime
    steps = max(1, math.ceil(num_steps(optimization, len(setup.train)) * budget))
    spec = setup.spec.model_copy(
        update={
            "optimization": optimization.model_copy(update={"max_steps": steps}),
            "runtime": runtime.model_copy(
                update={"seeds": 1, "evaluate_every": math.ceil(steps / EVALUATIONS)}
            ),
        }
    )
    return Setup(spec=spec, stage=setup.stage, train=setup.train, validation=setup.validation)


def silent(report: Report) -> Report:
    """Return a report that only says that there is life: series and warnings are the chosen method's."""

    def emit(event: Event) -> None:
        del event
        report.emit(AliveEvent())

    return Report(emit)
