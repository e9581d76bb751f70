"""Each task of a `multi_task` job trained for itself, on the same rows, as many of them in each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workers.recipes.baselines import held_out_figures
from workers.recipes.bench import Preparation, count, finished
from workers.recipes.team import Member, Team
from workers.recipes.trials import silent
from workers.training.loop import Loop
from workers.training.report import Report

EVALUATIONS = 10


def trained_apart(
    team: Team, steps: int, report: Report, should_drain: Callable[[], bool]
) -> dict[str, Any]:
    """Return the figures of a model for each task, by its name. They leave no checkpoints.

    Raises:
        Drained: asked to stop; the next run begins with the first of them again.
    """
    found: dict[str, Any] = {}
    for name, member in team.members.items():
        report.log(f"For comparison, a model learns {name} alone")
        rows = team.rows_a_step[name]
        found[name] = _alone(team, member, steps, rows, silent(report), should_drain)
    return found


def _alone(
    team: Team, member: Member, steps: int, rows: int, report: Report,
    should_drain: Callable[[], bool],
) -> dict[str, Any]:  # fmt: skip
    spec = member.spec
    optimization = team.spec.optimization.model_copy(
        update={
            "batch_size": rows,
            "max_steps": steps,
            "epochs": math.ceil(steps * rows / len(member.sets["train"])) + 1,
            "max_length": member.max_length,
        }
    )
    runtime = team.spec.runtime.model_copy(
        update={"seeds": 1, "evaluate_every": max(1, steps // EVALUATIONS), "baselines": False}
    )
    spec = spec.model_copy(update={"optimization": optimization, "runtime": runtime})
    bench = replace(member.bench, spec=spec, report=report)
    preparation = Preparation(bench, team.spec.chosen_method, keeps_checkpoints=False)
    folder = bench.assignment.folder / "apart"
    setup = replace(preparation.setup(0), folder=folder, checkpoints=())
    loop = Loop(setup, report, should_drain)
    loop.run()
    loop.finish()
    stage = finished(loop.setup).stage
    figures = held_out_figures(stage, preparation.sets, loop.state.max_batch_tokens)
    return figures | {"steps": loop.state.total_steps, "parameters": count(stage.network)}
