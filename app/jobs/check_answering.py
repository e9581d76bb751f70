"""The dry run of a job that asks a model: which rows it can ask, and how long that takes. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from app.adapt.inputs import columns_of_file, inputs_of
from app.adapt.labelled import SET, prepare_labelled
from app.adapt.parallel import read_set
from app.adapt.reader import Problems
from app.adapt.source import Source
from app.adapt.task import Example, Task
from app.errors import InvalidData
from app.jobs.measuring import ASSUMED, count_tokens, size_of
from app.jobs.schemas import CheckOut
from app.kit.counting import counted
from app.spec.answering import Answering
from app.spec.batch_predict import BatchPredict
from app.spec.evaluate import Evaluate
from app.spec.resolve import CORE_FLOPS

Paths = dict[str | None, tuple[Path, str]]


@dataclass(frozen=True)
class Asking:
    """What a job asks: its task, its examples, what the data looks like, and what is to be said."""

    task: Task
    name: str
    examples: Sequence[Example]
    report: dict[str, Any]
    warnings: list[str]


def check_evaluate(spec: Evaluate, files: Paths, source: Source | None, max_rows: int) -> CheckOut:
    """Read and check the rows as the job will.

    Raises:
        InvalidData: they cannot be used, or have labels that the model does not know.
    """
    dataset = read_set(files, f"data.{SET}", max_rows=max_rows)
    task, is_fitted = _task(spec, source)
    labelled = prepare_labelled(task, spec.data, dataset, is_fitted=is_fitted)
    asking = Asking(labelled.task, SET, labelled.examples, labelled.report, list(labelled.warnings))
    return _answer(spec, asking, source, {})


def check_batch_predict(
    spec: BatchPredict, files: Paths, source: Source | None, max_rows: int
) -> CheckOut:
    """Read the rows as the job will.

    Raises:
        InvalidData: none of them can be used, or one of them, where that fails the job.
    """
    path, filename = files[None]
    found, rows = columns_of_file(path, filename, max_rows=max_rows)
    task, _ = _task(spec, source)
    columns = task.input_columns(found, spec.data.columns, filename)
    spec.kept_columns(found, filename)
    problems = Problems(filename)
    examples: list[Example] = []
    for entry in inputs_of(path, filename, task, columns):
        if entry.example is not None:
            examples.append(entry.example)
        if entry.problem is not None:
            problems.add(entry.problem)
    if spec.data.on_bad_rows == "fail" or not examples:
        problems.raise_if_any(param="data.inputs")
    report: dict[str, Any] = {"columns": columns, "rows": rows, "usable": len(examples)}
    warnings: list[str] = []
    if problems:
        report["problems"] = problems.to_dict()
        count = counted(len(problems), "row has", "rows have")
        warnings.append(f"{filename}: {count} no answer: {problems.error().message}")
    asking = Asking(task, "inputs", examples, report, warnings)
    return _answer(spec, asking, source, {"chunk_rows": spec.rows_a_chunk(rows)})


def _task(spec: Answering, source: Source | None) -> tuple[Task, bool]:
    """Return the task as it is known here, and whether a training has fitted it."""
    task = spec.known_task
    if source is None or source.kind in {"finished", "checkpoint"}:
        return task, source is not None
    return task.as_base(source.config), False


def _answer(
    spec: Answering, asking: Asking, source: Source | None, resolved: dict[str, Any]
) -> CheckOut:
    if not asking.examples:
        message = "no row can be used"
        raise InvalidData(message, param=f"data.{asking.name}", code="no_usable_rows")
    warnings = list(asking.warnings)
    sets = {asking.name: asking.examples}
    tokens = sum(
        each.total for each in count_tokens(asking.task, sets, source, warnings)[asking.name]
    )
    if source is None:
        parameters, embeddings = ASSUMED
        warnings.append(
            f"the estimate assumes {parameters:,} parameters: the model is not on this host"
        )
    else:
        parameters, embeddings = size_of(source)
    cores = psutil.cpu_count(logical=False) or 1
    cost: dict[str, Any] = {"rows": len(asking.examples), "tokens": tokens}
    if asking.task.generates:
        warnings.append("no time is estimated: how long writing takes depends on the answers")
    else:
        # 2 N T without embeddings: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1.
        flops = 2 * (parameters - embeddings) * tokens
        cost["seconds"] = round(flops / (CORE_FLOPS * cores), 1)
    cost |= {
        "memory_bytes": parameters * 4 + spec.batch_tokens("cpu") * 24_000,
        "basis": "2 * parameters (without embeddings) * tokens at 45 GFLOP/s a core; 4 bytes a parameter, "
        "24 kB a token of the largest batch",
        "device": "cpu",
        "threads": os.cpu_count(),
    }
    update = {"task": asking.task, "max_batch_tokens": spec.batch_tokens("cpu"), **resolved}
    return CheckOut(
        spec=spec.model_copy(update=update).model_dump(mode="json"),
        data=asking.report,
        estimate=cost,
        warnings=warnings,
    )
