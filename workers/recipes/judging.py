"""What came of a training: the finished network on every held-out set, beside what it has to beat."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.adapt.dataset import Prepared
from app.jobs.state import Phase
from workers.recipes.baselines import linear_probe, untouched
from workers.recipes.encoding import Sets
from workers.training.course import Setup
from workers.training.evaluate import Evaluation, evaluate
from workers.training.report import Report
from workers.training.state import TrainState

HELD_OUT = ("validation", "test")


def judge(setup: Setup, sets: Sets, max_tokens: int, report: Report) -> dict[str, Evaluation]:
    """Evaluate the finished network on the sets that there are."""
    report.phase(Phase.EVALUATING)
    return {
        name: evaluate(setup.stage, sets[name], max_tokens, intervals=True)
        for name in HELD_OUT
        if sets[name]
    }


def baselines(setup: Setup, folders: Sequence[Path], sets: Sets, max_tokens: int) -> dict[str, Any]:
    """Return the figures of the untouched source, and of a linear probe on it.

    Of several sources side by side, none answers by itself.
    """
    found: dict[str, Any] = {}
    if len(folders) == 1:
        found["untouched"] = untouched(setup.stage, folders[0], sets, max_tokens)
    if setup.spec.chosen_method.steps:
        seed = setup.spec.runtime.seed
        found["linear_probe"] = linear_probe(setup.stage, folders, sets, max_tokens, seed)
    return {name: figures for name, figures in found.items() if figures}


def summarize(
    state: TrainState, prepared: Prepared, evaluations: dict[str, Evaluation],
    compared: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return the job's report: data, quality before and after, and what it has to beat."""
    name, greater = prepared.task.primary_metric()
    summary: dict[str, Any] = {
        "data": prepared.report,
        "primary_metric": name,
        "steps": state.total_steps,
        "best_step": state.kept_step,
        "trained_tokens": state.trained_tokens,
        "stopped_early": state.is_stopped,
        "before": state.before,
        "evaluation": {
            split: {"metrics": result.metrics, "intervals": result.intervals, **result.details}
            for split, result in evaluations.items()
        },
        "baselines": majority(prepared) | compared,
    }
    if len(state.seeds) > 1:
        summary["seeds"] = spread(state, sign=1 if greater else -1)
    if state.trials:
        summary["trials"] = state.trials
    return summary


def spread(state: TrainState, sign: int) -> dict[str, Any]:
    """Return what each seed came to on the validation rows, with mean and standard deviation."""
    values = [sign * result.value for result in state.seeds]
    return {
        "runs": [
            {"seed": result.seed, "value": value, "best_step": result.best_step}
            for result, value in zip(state.seeds, values, strict=True)
        ],
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values),
    }


def majority(prepared: Prepared) -> dict[str, Any]:
    """Return the figures of always answering the commonest training label; empty where none is."""
    task = prepared.task
    counts = Counter(task.stratum(example) for example in prepared.train)
    if None in counts or not counts:
        return {}
    label = counts.most_common(1)[0][0]
    sets = {"validation": prepared.validation, "test": prepared.test}
    shares = {
        name: sum(task.stratum(example) == label for example in items) / len(items)
        for name, items in sets.items()
        if items
    }
    return {"majority": {name: {"metrics": {"accuracy": share}} for name, share in shares.items()}}
