"""The `evaluate` recipe: a model judged by labelled rows, and the rows that it does worst."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from app.adapt.labelled import SET, Labelled, prepare_labelled
from app.adapt.lengths import tell_of_encoded
from app.adapt.outputs import Encoded
from app.adapt.parallel import read_set
from app.adapt.task import Task
from app.jobs.state import Phase
from app.spec.evaluate import Evaluate
from workers.protocol import DoneEvent, ResolvedEvent
from workers.recipes.asking import Asked, beating, known, load_asked, own_task, resolved
from workers.recipes.memory import Memory
from workers.recipes.reading import MAX_ROWS, checked
from workers.recipes.recipe import Recipe
from workers.recipes.sources import Loaded, SourceLoader
from workers.recipes.worst import Judged, worst_rows
from workers.training.device import environment
from workers.training.evaluate import Evaluation, evaluate, written_rows


@dataclass(frozen=True)
class EvaluateRecipe(Recipe[Evaluate]):
    """One `evaluate` job, from its assignment to its report."""

    def run(self) -> DoneEvent:
        """Do the job.

        Raises:
            AttuneError: the data or the model is at fault.
            Drained: asked to stop; the next run goes on where this one was.
        """
        report = self.report
        device = self.begin()
        spec = cast("Evaluate", known(self.assignment, self.spec))
        loader = SourceLoader(self.assignment, spec.runtime.seed)
        loaded = loader.load(spec.model, spec.revision)
        labelled = self._read(spec, loaded)
        report.phase(Phase.LOADING)
        task = _writing(labelled.task, spec)
        asked = load_asked(self.assignment, spec, loaded, task, device)
        report.phase(Phase.ENCODING)
        encoded = asked.tokenizers.encode(task, labelled.examples, asked.max_length)
        for line in tell_of_encoded(task, labelled.report, {SET: encoded}, asked.max_length):
            report.log(line)
        memory = Memory(
            self.assignment.folder / "checkpoints", self.assignment.checkpoints,
            [len(labelled.examples), len(encoded), asked.max_tokens], report,
        )  # fmt: skip
        report.emit(
            ResolvedEvent(
                spec=resolved(spec, asked), data=labelled.report, environment=environment(device),
                resumed_from_step=memory.rows or None,
            )
        )  # fmt: skip
        return self._judge(asked, labelled, encoded, memory)

    def _read(self, spec: Evaluate, loaded: Loaded) -> Labelled:
        files = {
            role: checked(self.assignment, file_id)
            for role, file_id in spec.sets()[f"data.{SET}"].items()
        }
        dataset = read_set(files, f"data.{SET}", max_rows=MAX_ROWS)
        task = own_task(spec, loaded)
        is_fitted = task is spec.known_task and loaded.source.kind in {"finished", "checkpoint"}
        labelled = prepare_labelled(task, spec.data, dataset, is_fitted=is_fitted)
        for warning in labelled.warnings:
            self.report.log(warning, "warning")
        return labelled

    def _judge(
        self, asked: Asked, labelled: Labelled, encoded: list[Encoded], memory: Memory
    ) -> DoneEvent:
        report = self.report
        report.phase(Phase.EVALUATING)
        beat = beating(report, self.should_drain, memory.save)
        asked = replace(asked, stage=replace(asked.stage, beat=beat))
        written, _ = written_rows(asked.stage.task, encoded, final=True)
        judged = Judged(asked.stage.task, memory, report, len(encoded) + len(written))
        result = evaluate(asked.stage, encoded, asked.max_tokens, intervals=True, watch=judged)
        report.metrics(len(encoded), {f"{SET}/{name}": v for name, v in result.metrics.items()})
        worst = worst_rows(judged, asked, labelled.examples, self.spec.worst)
        if self.spec.worst and not worst:
            report.log("A row of this form of the task has no loss by itself: none is the worst")
        return self._done(asked.stage.task, labelled, result, worst)

    def _done(
        self, task: Task, labelled: Labelled, result: Evaluation, worst: list[dict[str, Any]]
    ) -> DoneEvent:
        name, _ = task.primary_metric()
        shown = f"{name} {result.metrics[name]:.4f}" if name in result.metrics else "judged"
        return DoneEvent(
            message=f"{shown} on {len(labelled.examples)} rows",
            report={
                "model": self.spec.model,
                "task": task.model_dump(mode="json"),
                "data": labelled.report,
                "primary_metric": name,
                "evaluation": {
                    SET: {
                        "metrics": result.metrics,
                        "intervals": result.intervals,
                        **result.details,
                    }
                },
                "worst": worst,
            },
        )


def _writing(task: Task, spec: Evaluate) -> Task:
    """Return the task with the options by which the job has it write.

    What is drawn is drawn from a seed for each row, so that a run that goes on draws the same.
    """
    if not task.generates:
        return task
    options: Any = task.parameters.model_validate(task.default_parameters() | spec.parameters)
    if options.do_sample and options.seed is None:
        options = options.model_copy(update={"seed": spec.runtime.seed})
    return task.model_copy(update={"decoding": options})
