"""The `distill` recipe: teachers answer once, the student learns from it, and all of them are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from app.adapt.loss import internals
from app.adapt.outputs import Encoded
from app.adapt.task import Task
from app.errors import InvalidSpec
from app.jobs.state import Phase
from app.spec.distill import Distill
from workers.protocol import Assignment, FinishedEvent
from workers.recipes import teacher_cache
from workers.recipes.bench import Bench, Preparation, count, finished
from workers.recipes.comparing import compare
from workers.recipes.judging import judge, summarize
from workers.recipes.objective import check_objective, with_learned
from workers.recipes.reading import read_data
from workers.recipes.saving import save_model
from workers.recipes.seeds import begin, run_seeds
from workers.recipes.sources import SourceLoader
from workers.recipes.teaching import (
    Teacher,
    aligned,
    common_task,
    encoded_by,
    from_network,
    from_rows,
    load_teacher,
    same_tokens,
    scores_of,
    taught,
    teacher_task,
)
from workers.recipes.transfer_set import augmented, unlabeled
from workers.training.device import choose_device, make_deterministic
from workers.training.loop import Loop, Setup
from workers.training.report import Report


@dataclass(frozen=True)
class Lesson:
    """What a student is taught: its preparation with the teachers' answers noted, and the teachers.

    `read` are the validation rows as the first teacher reads them.
    """

    preparation: Preparation
    teachers: list[Teacher]
    read: list[Encoded]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """What a teacher says about a set: its own rows, and its scores for the student's."""

    read: list[Encoded]
    scores: list[Any]


@dataclass(frozen=True)
class DistillRecipe:
    """One `distill` job, from its assignment to a finished student."""

    assignment: Assignment
    spec: Distill
    report: Report
    should_drain: Callable[[], bool]

    def run(self) -> FinishedEvent:
        """Do the job.

        Raises:
            AttuneError: the data, a model or the training is at fault.
            Drained: asked to stop; a checkpoint has been saved.
        """
        report = self.report
        report.phase(Phase.VALIDATING)
        device = choose_device(self.spec.runtime.device)
        make_deterministic()
        spec = self.spec.model_copy(update={"task": self._task()})
        prepared = read_data(self.assignment, spec, report)
        further = unlabeled(self.assignment, spec, prepared, report)
        report.phase(Phase.LOADING)
        loader = SourceLoader(self.assignment, spec.runtime.seed)
        teacher = loader.find(next(iter(spec.teachers.values())))
        bench = Bench.open(loader, spec, prepared, device, report, teacher.folder)
        copies = augmented(spec, prepared, bench.loaded.tokenizers.first)
        bench = replace(bench, further=[*further, *copies])
        lesson = self._teach(bench, loader)
        lesson.facts.update(
            labelled=len(prepared.train), unlabeled=len(further), augmented=len(copies)
        )
        loop = self._train(lesson)
        trained = count(loop.network, is_trained=True)
        setup = finished(loop.setup)
        tokens, sets = loop.state.max_batch_tokens, lesson.preparation.sets
        evaluations = judge(setup, sets, tokens, report)
        compared = compare(lesson, setup, evaluations, loop.state, self.should_drain)
        report.phase(Phase.SAVING)
        summary = summarize(loop.state, prepared, evaluations, {})
        summary |= {"distillation": lesson.facts | compared, "trained_parameters": trained}
        loaded = replace(bench.loaded, teachers=[each.source for each in lesson.teachers])
        return save_model(self.assignment, setup, loaded, prepared, evaluations, summary)

    def _task(self) -> Task:
        return common_task(
            {
                param: teacher_task(self.assignment, model_id, self.spec.task, param)
                for param, model_id in self.spec.teachers.items()
            }
        )

    def _teach(self, bench: Bench, loader: SourceLoader) -> Lesson:
        """Encode for the student, load the teachers, and note what they say in every row."""
        report = self.report
        report.phase(Phase.ENCODING)
        preparation = Preparation(bench, bench.spec.chosen_method)
        preparation.check_memory()
        plain = preparation.stage(torch.nn.Identity())
        task = bench.prepared.task
        teachers = [
            load_teacher(loader, model_id, param, plain, task)
            for param, model_id in self.spec.teachers.items()
        ]
        report.phase(Phase.TEACHING)
        said = [self._answers(teacher, preparation) for teacher in teachers]
        read = said[0]["validation"].read
        if internals(plain.losses):
            _check_inside(teachers, read, preparation)
        quality = [_quality(task, answers["validation"].scores, preparation) for answers in said]
        weights = _weights(quality, is_equal=self.spec.teacher_weights == "equal")
        for name, items in preparation.sets.items():
            if items:
                mixed = _mixed([answers[name].scores for answers in said], weights)
                preparation.sets[name] = taught(items, mixed, task)
        facts: dict[str, Any] = {
            "teachers": [
                {"id": teacher.source.id, "validation": metrics, "weight": round(weight, 4)}
                for teacher, metrics, weight in zip(teachers, quality, weights, strict=True)
            ]
        }
        return Lesson(preparation, teachers, read, facts)

    def _answers(self, teacher: Teacher, preparation: Preparation) -> dict[str, Answers]:
        """Return what a teacher says about each set, from the cache if possible."""
        found: dict[str, Answers] = {}
        known = rows = 0
        for name, ours in preparation.sets.items():
            if not ours:
                continue
            theirs = encoded_by(teacher, preparation, name)
            key = teacher_cache.key_of(teacher.digest, theirs)
            folder = self.assignment.cache
            scores = None if folder is None else teacher_cache.read(folder, key)
            rows += len(theirs)
            known += 0 if scores is None else len(theirs)
            if scores is None:
                scores = scores_of(teacher, theirs)
                if folder is not None:
                    teacher_cache.write(folder, key, scores)
            found[name] = Answers(theirs, aligned(teacher.stage.task, scores, theirs, ours))
        where = f"{known} of them from the cache" if known else "kept for other runs and students"
        self.report.log(f"{teacher.source.id} has answered {rows} texts, {where}",
                        data={"rows": rows, "cached": known})  # fmt: skip
        return found

    def _train(self, lesson: Lesson) -> Loop:
        data_report = lesson.preparation.bench.prepared.report
        loop, _ = begin(self._taught(lesson, 0), data_report, self.report, self.should_drain)
        return run_seeds(loop, lambda number: self._taught(lesson, number))

    def _taught(self, lesson: Lesson, number: int) -> Setup:
        """Return the setup of a seed, whose stage has the teacher beside it."""
        setup = lesson.preparation.setup(number)
        stage = setup.stage
        is_inside = bool(internals(stage.losses))
        teach = from_network(lesson.teachers[0], stage) if is_inside else from_rows(stage.device)
        stage = replace(stage, teach=teach)
        stage = with_learned(stage, setup.train, self.spec.runtime.seed + number)
        check_objective(stage, setup.train)
        return replace(setup, stage=stage)


def _quality(task: Task, scores: Sequence[Any], preparation: Preparation) -> dict[str, float]:
    metrics = task.metrics()
    metrics.add(scores, preparation.sets["validation"])
    return metrics.compute()


def _weights(quality: Sequence[dict[str, float]], *, is_equal: bool) -> list[float]:
    """Return what each teacher counts for; the weights add up to 1."""
    values = [1.0 if is_equal else max(next(iter(metrics.values())), 1e-6) for metrics in quality]
    return [value / sum(values) for value in values]


def _mixed(said: Sequence[Sequence[Any]], weights: Sequence[float]) -> list[Any]:
    """Return the weighted mean of several teachers' scores of the same rows."""
    if len(said) == 1:
        return list(said[0])
    return [
        np.sum(
            [w * scores for w, scores in zip(weights, rows, strict=True)], axis=0, dtype=np.float32
        )
        for rows in zip(*said, strict=True)
    ]


def _check_inside(
    teachers: Sequence[Teacher], read: Sequence[Encoded], preparation: Preparation
) -> None:
    """See that one teacher reads what the student does, token by token.

    Raises:
        InvalidSpec: there are several, or it reads other tokens.
    """
    if len(teachers) > 1:
        message = "losses: what goes on inside is learned from one teacher only"
        raise InvalidSpec(message, param="losses")
    if not same_tokens(read, preparation.sets["validation"]):
        message = (
            "losses: hidden states and attentions are compared token by token, and student and teacher cut "
            "texts into other tokens; use kl_divergence or logit_mse, or a student with the teacher's "
            "tokenizer"
        )
        raise InvalidSpec(message, param="losses", code="tokens_differ")
