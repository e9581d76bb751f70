"""The `distill` recipe: teachers answer once, the student learns from it, and all of them are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.adapt.task import Task
from app.jobs.state import Phase
from app.spec.distill import Distill
from workers.protocol import FinishedEvent
from workers.recipes.bench import Bench, count, finished
from workers.recipes.comparing import compare
from workers.recipes.judging import judge, summarize
from workers.recipes.lesson import Lesson, prepare_lesson
from workers.recipes.objective import check_objective, with_learned
from workers.recipes.reading import read_data
from workers.recipes.recipe import Recipe
from workers.recipes.saving import save_model
from workers.recipes.seeds import begin, run_seeds
from workers.recipes.sources import SourceLoader
from workers.recipes.teaching import common_task, from_network, from_rows, teacher_task
from workers.recipes.transfer_set import augmented, unlabeled
from workers.recipes.writing import writer, written
from workers.training.course import Setup
from workers.training.loop import Loop


@dataclass(frozen=True)
class DistillRecipe(Recipe[Distill]):
    """One `distill` job, from its assignment to a finished student."""

    def run(self) -> FinishedEvent:
        """Do the job.

        Raises:
            AttuneError: the data, a model or the training is at fault.
            Drained: asked to stop; a checkpoint has been saved.
        """
        report = self.report
        device = self.begin()
        spec = self.spec.model_copy(update={"task": self._task()})
        prepared = read_data(self.assignment, spec, report)
        prepared.task.check_teaching()
        further = unlabeled(self.assignment, spec, prepared, report)
        report.phase(Phase.LOADING)
        loader = SourceLoader(self.assignment, spec.runtime.seed)
        teacher = loader.find(next(iter(spec.teachers.values())))
        bench = Bench.open(loader, spec, prepared, device, report, teacher.folder)
        copies = augmented(spec, prepared, bench.loaded.tokenizers.first)
        bench = self._written(replace(bench, further=[*further, *copies]), loader)
        lesson = prepare_lesson(bench, loader, prepared.train)
        lesson.facts.update(
            labelled=len(prepared.train), unlabeled=len(further), augmented=len(copies),
            answers=spec.data.answers,
        )  # fmt: skip
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

    def _written(self, bench: Bench, loader: SourceLoader) -> Bench:
        """Return the bench with answers that the teacher wrote: to all texts, or to those without one."""
        task, prepared = bench.prepared.task, bench.prepared
        if not task.generates or not (self.spec.is_written or bench.further):
            return bench
        self.report.phase(Phase.TEACHING)
        teacher = writer(loader, self.spec, task, bench.device, self.report)
        cache = self.assignment.cache
        if self.spec.is_written:
            examples = [*prepared.train, *bench.further]
            train = written(teacher, examples, cache, self.report)
            return replace(bench, prepared=replace(prepared, train=train), further=())
        return replace(bench, further=written(teacher, bench.further, cache, self.report))

    def _train(self, lesson: Lesson) -> Loop[Setup]:
        data_report = lesson.preparation.bench.prepared.report
        loop, _ = begin(self._taught(lesson, 0), data_report, self.report, self.should_drain)
        return run_seeds(loop, lambda number: self._taught(lesson, number))

    def _taught(self, lesson: Lesson, number: int) -> Setup:
        """Return the setup of a seed, whose stage has the teacher beside it."""
        setup = lesson.preparation.setup(number)
        stage = setup.stage
        match lesson.way:
            case "beside":
                stage = replace(stage, teach=from_network(lesson.teachers[0], stage))
            case "noted":
                stage = replace(stage, teach=from_rows(stage.device, stage.task))
            case "written":
                pass
        stage = with_learned(stage, setup.train, self.spec.runtime.seed + number)
        check_objective(stage, setup.train)
        return replace(setup, stage=stage)
