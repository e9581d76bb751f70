"""A distilled student beside its teacher, and beside itself without one: quality, size and speed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from app.adapt.outputs import Encoded
from app.kit.clock import monotonic
from workers.recipes.baselines import held_out_figures
from workers.recipes.bench import count, finished
from workers.recipes.objective import task_losses
from workers.recipes.teaching import BATCH_TOKENS as TEACHER_TOKENS
from workers.recipes.teaching import TAUGHT, encoded_by
from workers.recipes.trials import silent
from workers.training.batches import fit_tokens
from workers.training.course import Setup
from workers.training.evaluate import Evaluation, Stage, evaluate
from workers.training.loop import Loop
from workers.training.state import TrainState

if TYPE_CHECKING:
    from workers.recipes.lesson import Lesson

TIMED_ROWS = 256
TIMED_ANSWERS = 32  # that are written, which takes longer
TIMED_CALLS = 30
BATCH_TOKENS = 4_096


def compare(
    lesson: Lesson, student: Setup, evaluations: dict[str, Evaluation], state: TrainState,
    should_drain: Callable[[], bool],
) -> dict[str, Any]:  # fmt: skip
    """Return teacher, student and the student without a teacher, and what share of quality is kept."""
    preparation = lesson.preparation
    rows = preparation.sets["validation"]
    found: dict[str, Any] = {
        "student": {name: _figures(result) for name, result in evaluations.items()}
        | _cost(student.stage, rows)
    }
    teacher = lesson.teachers[0]
    found["teacher"] = {name: _said(lesson, name) for name in evaluations} | _cost(
        teacher.stage, lesson.read
    )
    if student.spec.runtime.baselines:
        found["student_without_teacher"] = _alone(lesson, state, should_drain)
    metric, greater = student.stage.task.primary_metric()
    split = "test" if "test" in evaluations else "validation"
    ours, best = (
        found["student"][split]["metrics"][metric],
        found["teacher"][split]["metrics"][metric],
    )
    ours, best = (ours, best) if greater else (best, ours)
    found["kept"] = {"metric": metric, "set": split, "share": ours / best if best else None}
    return found


def _said(lesson: Lesson, name: str) -> dict[str, Any]:
    """Return the figures of what the teachers say, together where they are several.

    Of those that are taught token by token, or that run beside their student: of the first.
    """
    if lesson.preparation.bench.prepared.task.teaching != "scores":
        teacher = lesson.teachers[0]
        items = encoded_by(teacher, lesson.preparation, name)
        return _figures(evaluate(teacher.stage, items, TEACHER_TOKENS, intervals=True))
    task, rows = lesson.preparation.bench.prepared.task, lesson.preparation.sets[name]
    metrics = task.metrics()
    metrics.add([item.extra[TAUGHT] for item in rows], rows)
    return {"metrics": metrics.compute(), "intervals": metrics.intervals()}


def _alone(lesson: Lesson, state: TrainState, should_drain: Callable[[], bool]) -> dict[str, Any]:
    """Return the figures of the same student, trained for as many steps on the labelled rows alone."""
    preparation = lesson.preparation
    bench = preparation.bench
    setup = preparation.setup(0)
    spec = preparation.spec.model_copy(update={"losses": None})
    rows = lesson.labelled
    steps = state.total_steps // max(1, len(state.seeds))
    epochs = math.ceil(steps * int(spec.optimization.batch_size) / len(rows)) + 1
    optimization = spec.optimization.model_copy(update={"max_steps": steps, "epochs": epochs})
    every = max(1, steps // 10)
    runtime = spec.runtime.model_copy(update={"seeds": 1, "evaluate_every": every})
    spec = spec.model_copy(update={"optimization": optimization, "runtime": runtime})
    losses = task_losses(spec, bench.prepared.task, bench.prepared.train)
    stage = replace(setup.stage, losses=losses, teach=None)
    bench.report.log(f"For comparison, the student learns from the {len(rows)} labelled rows alone")
    folder = bench.assignment.folder / "alone"
    setup = replace(setup, spec=spec, stage=stage, train=rows, folder=folder, checkpoints=())
    loop = Loop(setup, silent(bench.report), should_drain)
    loop.run()
    loop.finish()
    stage = finished(setup).stage
    figures = held_out_figures(stage, preparation.sets, loop.state.max_batch_tokens)
    return figures | {"steps": loop.state.total_steps}


def _figures(result: Evaluation) -> dict[str, Any]:
    return {"metrics": result.metrics, "intervals": result.intervals}


@torch.no_grad()
def _cost(stage: Stage, rows: Sequence[Encoded]) -> dict[str, Any]:
    """Return parameters, bytes, texts a second in batches, and milliseconds for one text (median)."""
    network, half = stage.network.eval(), stage.task.network()
    writes, parameters = stage.task.generation(final=True)
    chosen = rows[: TIMED_ANSWERS if writes else TIMED_ROWS]

    def answer(items: Sequence[Encoded]) -> None:
        if writes:
            half.generate(stage.task, network, items, stage.tokenizer, parameters)
            return
        batch = half.collate(stage.task, items, stage.pad_id).to(stage.device)
        half.scores(stage.task, half.forward(network, batch), batch)

    answer(chosen[:8])
    calls = TIMED_CALLS // 4 if writes else TIMED_CALLS
    singles = [_seconds(answer, [item]) for item in chosen[:calls]]
    parts = fit_tokens(range(len(chosen)), [len(item) for item in chosen], BATCH_TOKENS)
    batched = sum(_seconds(answer, [chosen[at] for at in part]) for part in parts)
    return {
        "parameters": count(network),
        "bytes": sum(p.numel() * p.element_size() for p in network.parameters()),
        "texts_per_s": round(len(chosen) / batched, 1),
        "latency_ms": round(1000 * statistics.median(singles), 3),
    }


def _seconds(answer: Callable[[Sequence[Encoded]], None], items: Sequence[Encoded]) -> float:
    started = monotonic()
    answer(items)
    return monotonic() - started
