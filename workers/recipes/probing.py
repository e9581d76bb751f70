"""What labelled rows say of an encoder before and after: a linear probe of each, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.adapt.dataset import Prepared, prepare
from app.adapt.parallel import read_set
from app.adapt.plugins import LOSSES
from app.errors import AttuneError, InvalidSpec
from app.spec.pretrain import Probe
from workers.protocol import Assignment
from workers.recipes.baselines import linear_probe
from workers.recipes.reading import MAX_ROWS, checked
from workers.recipes.sources import Loaded
from workers.training.evaluate import Stage
from workers.training.report import Report


@dataclass(frozen=True)
class Probing:
    """The labelled rows, read and checked."""

    prepared: Prepared
    report: Report
    seed: int

    @classmethod
    def read(cls, assignment: Assignment, probe: Probe, report: Report, seed: int) -> Probing:
        """Read the rows and fit the task.

        Raises:
            InvalidData: they do not fit it; `param` begins with `probe`.
        """
        try:
            read = {
                name: read_set(
                    {role: checked(assignment, file_id) for role, file_id in sides.items()},
                    f"data.{name}",
                    max_rows=MAX_ROWS,
                )
                for name, sides in probe.data.sets().items()
            }
            prepared = prepare(
                probe.task, probe.data, read["train"], read.get("validation"), read.get("test")
            )
        except AttuneError as error:
            if error.param and not error.param.startswith("probe"):
                error.param = f"probe.{error.param}"
            raise
        for warning in prepared.warnings:
            report.log(f"probe: {warning}", "warning")
        return cls(prepared, report, seed)

    def figures(self, folder: Path, loaded: Loaded, like: Stage, max_tokens: int) -> dict[str, Any]:
        """Return what a linear head on the frozen features of this folder's model comes to.

        It runs as the stage `like` does.

        Raises:
            InvalidSpec: the task is none that a linear head does.
        """
        task, tokenizers = self.prepared.task, loaded.tokenizers
        losses = [LOSSES[given["kind"]].model_validate(given) for given in task.default_losses()]
        stage = replace(like, task=task, losses=losses, objective=None)
        sets = {
            name: tokenizers.encode(task, examples, loaded.max_length) if examples else []
            for name, examples in self._examples.items()
        }
        found = linear_probe(stage, [folder], sets, max_tokens, self.seed)
        if not found:
            message = (
                f"probe.task: no linear probe does {task.name()}; take text-classification, or fine-tune "
                "the finished model"
            )
            raise InvalidSpec(message, param="probe.task", code="method_does_not_fit")
        return found

    @property
    def _examples(self) -> dict[str, Any]:
        prepared = self.prepared
        return {
            "train": prepared.train,
            "validation": prepared.validation,
            "test": prepared.test,
        }

    def compared(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """Return both with the gain in the task's metric on the set that counts: test, else validation."""
        name, greater = self.prepared.task.primary_metric()
        split = "test" if "test" in after else "validation"
        gain = after[split]["metrics"][name] - before[split]["metrics"][name]
        return {
            "task": self.prepared.task.name(),
            "metric": name,
            "set": split,
            "before": before,
            "after": after,
            "gain": gain if greater else -gain,
        }
