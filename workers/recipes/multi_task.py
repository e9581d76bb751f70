"""The `multi_task` recipe: tasks read, trained around one encoder, judged beside models of their own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.adapt.dataset import Prepared
from app.adapt.layers.shared_trunk import HEADS, SharedTrunk, head_names
from app.errors import InvalidSpec, within
from app.jobs.state import Phase
from app.spec.multi_task import MultiTask
from workers.protocol import FinishedEvent
from workers.recipes.apart import trained_apart
from workers.recipes.bench import Bench, count
from workers.recipes.judging import HELD_OUT, majority, spread
from workers.recipes.reading import read_data
from workers.recipes.recipe import Recipe
from workers.recipes.saving import origin_of, write_model
from workers.recipes.seeds import begin, run_seeds
from workers.recipes.sources import SourceLoader, facts_of
from workers.recipes.team import Team, finished_network, named, num_parameters_apart
from workers.training.course import Course
from workers.training.evaluate import Evaluation, evaluate
from workers.training.loop import Loop
from workers.training.several import SeveralStage

KIND = "multi-task"


@dataclass(frozen=True)
class MultiTaskRecipe(Recipe[MultiTask]):
    """One `multi_task` job, from its assignment to a finished model folder."""

    def run(self) -> FinishedEvent:
        """Do the job.

        Raises:
            AttuneError: the data of a task, the model or the training is at fault.
            Drained: asked to stop; a checkpoint has been saved.
        """
        report = self.report
        device = self.begin()
        prepared = {name: self._read(name) for name in self.spec.tasks}
        report.phase(Phase.LOADING)
        benches = self._benches(prepared, device)
        carried = self._carried(benches)
        report.phase(Phase.ENCODING)
        team = Team(self.spec, benches)
        team.check_memory()
        report.log(
            f"Each step has {', '.join(f'{n} rows of {name}' for name, n in team.rows_a_step.items())}"
        )
        data = {name: each.report for name, each in prepared.items()}
        loop, _ = begin(team.course(0), data, report, self.should_drain)
        loop = run_seeds(loop, team.course)
        trained = count(loop.network, is_trained=True)
        network = finished_network(loop.setup, loop.network)
        report.phase(Phase.EVALUATING)
        judged = self._judge(team, network, loop.state.max_batch_tokens)
        apart: dict[str, Any] = {}
        if self.spec.runtime.baselines and self.spec.trunk == "trained":
            steps = loop.state.total_steps // max(1, len(loop.state.seeds))
            apart = trained_apart(team, steps, report, self.should_drain)
        report.phase(Phase.SAVING)
        summary = self._summary(team, loop, prepared, judged, apart)
        summary |= {
            "trained_parameters": trained,
            "parameters": {"together": count(network), "apart": num_parameters_apart(network)},
        }
        return self._save(team, network, judged, summary, carried)

    def _read(self, name: str) -> Prepared:
        with within(f"tasks.{name}"):
            return read_data(self.assignment, self.spec.part(name), named(self.report, name))

    def _benches(self, prepared: Mapping[str, Prepared], device: torch.device) -> dict[str, Bench]:
        loader = SourceLoader(self.assignment, self.spec.runtime.seed)
        return {
            name: Bench.open(
                loader, self.spec.part(name), prepared[name], device, named(self.report, name)
            )
            for name in self.spec.tasks
        }

    def _carried(self, benches: Mapping[str, Bench]) -> list[str]:
        """Return the source's heads that stay: their encoder does, too.

        Raises:
            InvalidSpec: a new task has the name of one of them, or there is only one task in all.
        """
        found = head_names(next(iter(benches.values())).loaded.source.folder)
        if self.spec.trunk == "trained":
            if found:
                self.report.log(
                    f"The heads of {', '.join(found)} are left behind, because their encoder is trained "
                    'further; "trunk": "frozen" keeps both',
                    "warning",
                )
            return []
        taken = sorted(set(found) & self.spec.tasks.keys())
        if taken:
            message = (
                f"tasks.{taken[0]}: {self.spec.model} has a head of this name already; take another"
            )
            raise InvalidSpec(message, param=f"tasks.{taken[0]}", code="name_taken")
        if len(found) + len(self.spec.tasks) < 2:  # noqa: PLR2004 - several
            message = (
                "tasks: one alone, on a model that has no other heads, is a job of kind 'fine_tune'"
            )
            raise InvalidSpec(message, param="tasks")
        return found

    def _judge(
        self, team: Team, network: SharedTrunk, max_tokens: int
    ) -> dict[str, dict[str, Evaluation]]:
        """Evaluate the finished network on every task's sets; by set, then by task."""
        stage = team.stage(network)
        return {
            split: {
                name: evaluate(stage.parts[name], member.sets[split], max_tokens, intervals=True)
                for name, member in team.members.items()
                if member.sets[split]
            }
            for split in HELD_OUT
        }

    def _summary(
        self, team: Team, loop: Loop[Course], prepared: Mapping[str, Prepared],
        judged: Mapping[str, Mapping[str, Evaluation]], apart: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        """Return the report; what is of one task is named `<set>/<task>`, or by the task."""
        state = loop.state
        summary: dict[str, Any] = {
            "data": {
                f"{split}/{name}": figures
                for name, each in prepared.items()
                for split, figures in each.report.items()
            },
            "primary_metric": "score",
            "primary_metrics": {
                name: member.bench.prepared.task.primary_metric()[0]
                for name, member in team.members.items()
            },
            "rows_a_step": team.rows_a_step,
            "steps": state.total_steps,
            "best_step": state.kept_step,
            "trained_tokens": state.trained_tokens,
            "stopped_early": state.is_stopped,
            "before": state.before,
            "evaluation": {
                f"{split}/{name}": {"metrics": r.metrics, "intervals": r.intervals, **r.details}
                for split, results in judged.items()
                for name, r in results.items()
            },
            "baselines": _baselines(prepared, apart),
            "apart": _compared(team, judged, apart),
        }
        stage = loop.setup.stage
        if isinstance(stage, SeveralStage) and "uncertainty" in stage.learned:
            summary["learned_weights"] = stage.factors()
        if len(state.seeds) > 1:
            summary["seeds"] = spread(state, sign=1)
        return summary

    def _save(
        self, team: Team, network: SharedTrunk, judged: Mapping[str, Mapping[str, Evaluation]],
        report: dict[str, Any], carried: list[str],
    ) -> FinishedEvent:  # fmt: skip
        first = next(iter(team.members.values())).bench
        source = first.loaded.source
        metrics = {
            f"{split}/{name}/{metric}": value
            for split, results in judged.items()
            for name, result in results.items()
            for metric, value in result.metrics.items()
        }
        tasks = {name: described(member) for name, member in team.members.items()}
        if carried:
            kept: dict[str, Any] = facts_of(source.folder)["tasks"]
            tasks = {name: kept[name] for name in carried} | tasks
        origin = origin_of(self.assignment, team.spec, first.loaded, network, team.device)
        facts = origin | {
            "task": {"kind": KIND},
            "tasks": tasks,
            "columns": {},
            "max_length": max(task["max_length"] for task in tasks.values()),
            "metrics": metrics,
            "report": report,
        }

        def fill(folder: Path) -> None:
            network.to("cpu").save(folder)
            for name in carried:
                shutil.copytree(source.folder / HEADS / name, folder / HEADS / name)
            first.loaded.tokenizers.save(folder)

        return write_model(self.assignment, facts, fill)


def described(member: Any) -> dict[str, Any]:
    """Return what serving needs to know of one task."""
    prepared, task = member.bench.prepared, member.bench.prepared.task
    return {
        "task": task.model_dump(mode="json"),
        "max_length": member.max_length,
        "columns": prepared.columns,
        "example_input": task.example_input(),
        "cautions": task.cautions(),
    }


def _baselines(prepared: Mapping[str, Prepared], apart: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each task has to beat, by `<set>/<task>` as its own figures are."""
    constant = {name: majority(each).get("majority", {}) for name, each in prepared.items()}
    found = {
        kind: {
            f"{split}/{name}": figures
            for name, by_split in given.items()
            for split, figures in by_split.items()
            if split in HELD_OUT
        }
        for kind, given in (("majority", constant), ("apart", apart))
    }
    return {kind: figures for kind, figures in found.items() if figures}


def _compared(
    team: Team, judged: Mapping[str, Mapping[str, Evaluation]], apart: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the models that were trained apart, each with what this one has more on the same rows."""
    found: dict[str, Any] = {}
    for name, figures in apart.items():
        metric, _ = team.members[name].bench.prepared.task.primary_metric()
        split = "test" if "test" in figures else "validation"
        ours, theirs = judged[split][name].metrics[metric], figures[split]["metrics"][metric]
        found[name] = {**figures, "metric": metric, "set": split, "delta": ours - theirs}
    return found
