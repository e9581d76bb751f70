"""What a student is taught: the teachers, and what they say in every row of every set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch

from app.adapt.layers import top_tokens
from app.adapt.loss import Loss, internals
from app.adapt.outputs import Encoded
from app.adapt.task import Example, Task
from app.errors import InvalidSpec
from app.jobs.state import Phase
from app.spec.distill import Distill
from workers.recipes import teacher_cache
from workers.recipes.bench import Bench, Preparation
from workers.recipes.sources import SourceLoader
from workers.recipes.teaching import (
    BATCH_TOKENS,
    Teacher,
    aligned,
    encoded_by,
    load_teacher,
    same_tokens,
    scores_of,
    taught,
)
from workers.training.evaluate import evaluate

# How the teacher's answers reach the objective: they are noted in the rows, the teacher runs beside its
# student, or the rows are what it has written.
Way = Literal["noted", "beside", "written"]
Said = dict[str, list[Any]]  # a teacher's scores for the student's rows, by set
SHARES = 3  # axes of a row that has shares of a vocabulary


def way_of(task: Task, losses: Sequence[Loss]) -> Way:
    """Return how a student is taught by these losses."""
    if not any(loss.needs_teacher for loss in losses):
        return "written"
    return "beside" if internals(losses) or task.teaching == "beside" else "noted"


@dataclass(frozen=True)
class Lesson:
    """What a student is taught: its preparation with the teachers' answers noted, and the teachers.

    `read` are the validation rows as the first teacher reads them, `labelled` the training rows with the
    answers of the data.
    """

    preparation: Preparation
    teachers: list[Teacher]
    read: list[Encoded]
    labelled: list[Encoded]
    facts: dict[str, Any]
    way: Way


def prepare_lesson(bench: Bench, loader: SourceLoader, labelled: Sequence[Example]) -> Lesson:
    """Encode for the student, load the teachers, and note what they say in every row.

    `labelled` are the training examples with the answers of the data.

    Raises:
        InvalidSpec: a teacher does not do the task, or reads other tokens where they are compared.
    """
    spec, task, report = cast("Distill", bench.spec), bench.prepared.task, bench.report
    report.phase(Phase.ENCODING)
    preparation = Preparation(bench, spec.chosen_method)
    preparation.check_memory()
    plain = preparation.stage(torch.nn.Identity())
    teachers = [
        load_teacher(loader, model_id, param, plain, task)
        for param, model_id in spec.teachers.items()
    ]
    report.phase(Phase.TEACHING)
    read = [encoded_by(teacher, preparation, "validation") for teacher in teachers]
    way = way_of(task, plain.losses)
    if way == "beside":
        _check_beside(teachers, read[0], preparation)
    said: list[Said] = []
    if task.teaching == "scores" or way == "noted":
        said = [
            _answers(teacher, rows, preparation, spec.top_k)
            for teacher, rows in zip(teachers, read, strict=True)
        ]
    quality = [
        _quality(teacher, read[at], said[at] if said else {}, preparation)
        for at, teacher in enumerate(teachers)
    ]
    weights = _weights(task, quality, is_equal=spec.teacher_weights == "equal")
    for name, items in preparation.sets.items():
        if items and said:
            mixed = _mixed([answers[name] for answers in said], weights)
            preparation.sets[name] = taught(items, mixed, task)
    facts: dict[str, Any] = {
        "teachers": [
            {"id": teacher.source.id, "validation": metrics, "weight": round(weight, 4)}
            for teacher, metrics, weight in zip(teachers, quality, weights, strict=True)
        ]
    }
    return Lesson(preparation, teachers, read[0], _plainly(preparation, labelled), facts, way)


def _plainly(preparation: Preparation, labelled: Sequence[Example]) -> list[Encoded]:
    """Return the labelled rows with the answers of the data, where the teacher wrote others too."""
    spec = cast("Distill", preparation.spec)
    if spec.is_written:
        length = int(spec.optimization.max_length)
        return preparation.tokenizers.encode(preparation.bench.prepared.task, labelled, length)
    return [item for item in preparation.sets["train"] if item.example < len(labelled)]


def _answers(teacher: Teacher, read: list[Encoded], preparation: Preparation, top_k: int) -> Said:
    """Return a teacher's scores for the student's rows of each set, from the cache if possible.

    `read` are the validation rows as it reads them.
    """
    found: Said = {}
    folder, digest = preparation.bench.assignment.cache, teacher.digest
    if teacher.stage.task.teaching == "tokens":
        digest += f"/{top_k}"
    known = rows = 0
    for name, ours in preparation.sets.items():
        if not ours:
            continue
        theirs = read if name == "validation" else encoded_by(teacher, preparation, name)
        key = teacher_cache.key_of(digest, theirs)
        scores, was_kept = teacher_cache.kept(
            folder, key, partial(scores_of, teacher, theirs, top_k)
        )
        rows += len(theirs)
        known += len(theirs) if was_kept else 0
        found[name] = aligned(teacher.stage.task, scores, theirs, ours)
    where = f"{known} of them from the cache" if known else "kept for other runs and students"
    preparation.bench.report.log(
        f"{teacher.source.id} has answered {rows} texts, {where}",
        data={"rows": rows, "cached": known},
    )
    return found


def _quality(
    teacher: Teacher, read: Sequence[Encoded], said: Said, preparation: Preparation
) -> dict[str, float]:
    """Return a teacher's figures on the validation rows."""
    task = teacher.stage.task
    if task.teaching != "scores":
        return evaluate(teacher.stage, read, BATCH_TOKENS).metrics
    metrics = task.metrics()
    metrics.add(said["validation"], preparation.sets["validation"])
    return metrics.compute()


def _weights(task: Task, quality: Sequence[dict[str, float]], *, is_equal: bool) -> list[float]:
    """Return what each teacher counts for; the weights add up to 1."""
    if is_equal:
        return [1 / len(quality)] * len(quality)
    name, greater = task.primary_metric()
    values = [max(metrics[name], 1e-6) ** (1 if greater else -1) for metrics in quality]
    return [value / sum(values) for value in values]


def _mixed(said: Sequence[Sequence[Any]], weights: Sequence[float]) -> list[Any]:
    """Return the weighted mean of several teachers' scores of the same rows."""
    if len(said) == 1:
        return list(said[0])
    if said[0][0].ndim == SHARES:
        return [top_tokens.mixed(rows, weights) for rows in zip(*said, strict=True)]
    return [
        np.sum(
            [w * scores for w, scores in zip(weights, rows, strict=True)], axis=0, dtype=np.float32
        )
        for rows in zip(*said, strict=True)
    ]


def _check_beside(
    teachers: Sequence[Teacher], read: Sequence[Encoded], preparation: Preparation
) -> None:
    """See that one teacher reads what the student does, token by token.

    Raises:
        InvalidSpec: there are several, or it reads other tokens.
    """
    if len(teachers) > 1:
        message = (
            "losses: what goes on inside, or is hidden anew in each step, is learned from one "
            "teacher only"
        )
        raise InvalidSpec(message, param="losses")
    if not same_tokens(read, preparation.sets["validation"]):
        message = (
            "losses: hidden states, attentions and hidden words are compared token by token, and student "
            "and teacher cut texts into other tokens; take a student with the teacher's tokenizer, or, but "
            "for fill-mask, kl_divergence or logit_mse"
        )
        raise InvalidSpec(message, param="losses", code="tokens_differ")
