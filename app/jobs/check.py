"""The dry run: everything about a job that can be known without training it. Torch-free.

It reads the files and fits the task exactly as the trainer will, and tokenizes with the model's own
`tokenizer.json`; where a model has none on this host, lengths are estimated from characters and said so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import psutil

from app.adapt.backbone import Backbone
from app.adapt.dataset import Dataset, Prepared, prepare
from app.adapt.lengths import Measured, tell
from app.adapt.parallel import read_set
from app.adapt.source import Source, model_limit
from app.adapt.student import Student
from app.adapt.tokens import Counted
from app.files.repository import FileRepository
from app.jobs.check_answering import Paths, check_batch_predict, check_evaluate
from app.jobs.check_multi_task import check_multi_task
from app.jobs.check_pretrain import check_pretrain
from app.jobs.measuring import ASSUMED, count_tokens, find_source, size_of
from app.jobs.schemas import CheckOut
from app.jobs.service import JobService
from app.kit.db import Database
from app.settings import Settings
from app.spec.batch_predict import BatchPredict
from app.spec.evaluate import Evaluate
from app.spec.job import JobSpec, TrainingSpec
from app.spec.multi_task import MultiTask
from app.spec.pretrain import Pretrain
from app.spec.resolve import Facts, estimate, resolve, starts_fresh
from app.store.layout import Layout

Sets = dict[str, Paths]  # of each field that names one
MAX_LENGTH = 512  # of a model that says nothing, or is not on this host


def check_job(
    database: Database, layout: Layout, settings: Settings, tenant_id: str, spec: JobSpec
) -> CheckOut:
    """Return the resolved spec, the data report and an estimate.

    Raises:
        InvalidData: the data does not fit the job.
        InvalidSpec: the model is not known.
    """
    with database.read() as session:
        spec = JobService(session, tenant_id, settings).check_references(spec)
        files = FileRepository(session, tenant_id)
        paths: Sets = {
            name: {
                role: (layout.file(file_id), files.get(file_id).filename)
                for role, file_id in sides.items()
            }
            for name, sides in spec.sets().items()
        }
        source = find_source(_model_id(spec), settings, layout, session, tenant_id)
    match spec:
        case Pretrain():
            return check_pretrain(database, layout, settings, tenant_id, spec)
        case Evaluate():
            return check_evaluate(spec, paths["data.test"], source, settings.max_rows)
        case BatchPredict():
            return check_batch_predict(spec, paths["data.inputs"], source, settings.max_rows)
        case MultiTask():
            check = partial(_check_training, source=source, max_rows=settings.max_rows)
            return check_multi_task(spec, paths, check)
        case _:
            return _check_training(spec, paths, source, settings.max_rows)


def _model_id(spec: JobSpec) -> str | None:
    if isinstance(spec.model, str):
        return spec.model
    return None if isinstance(spec.model, Backbone) else spec.model.source()


def _check_training(
    spec: TrainingSpec, paths: Sets, source: Source | None, max_rows: int
) -> CheckOut:
    sets: dict[str, Dataset] = {
        name.removeprefix("data."): read_set(sides, name, max_rows=max_rows)
        for name, sides in paths.items()
    }
    prepared = prepare(
        spec.task, spec.data, sets["train"], sets.get("validation"), sets.get("test")
    )
    warnings = list(prepared.warnings)
    examples = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    counted = count_tokens(
        prepared.task, examples, source, warnings, added=spec.method.added_tokens
    )
    facts = _facts(spec, source, counted["train"], warnings)
    resolved = resolve(spec.model_copy(update={"task": prepared.task}), facts)
    cost = estimate(resolved, facts) | {"device": "cpu", "threads": os.cpu_count()}
    warnings += _told_of_length(spec, prepared, counted, int(resolved.optimization.max_length))
    return CheckOut(
        spec=resolved.model_dump(mode="json"),
        data=prepared.report,
        estimate=cost,
        warnings=warnings,
    )


def _facts(
    spec: TrainingSpec, source: Source | None, counted: Sequence[Counted], warnings: list[str]
) -> Facts:
    """Return what the training rows and the model say, of a model that is not here what is assumed."""
    model = spec.model
    made = None if isinstance(model, str) or model.source() is not None else model
    parameters, embeddings = _parameters(source, made, warnings)
    return Facts(
        lengths=[each.total for each in counted],
        longest=[each.longest for each in counted],
        num_parameters=parameters,
        model_max_length=model_limit(source) or MAX_LENGTH,
        memory_bytes=psutil.virtual_memory().available,
        device="cpu",
        num_embeddings=embeddings,
        cores=psutil.cpu_count(logical=False) or 1,
        full_rate=made.full_rate if made else source and source.full_rate,
        is_fresh=starts_fresh(model, spec.transfer),
    )


def _told_of_length(
    spec: TrainingSpec, prepared: Prepared, counted: dict[str, list[Counted]], max_length: int
) -> list[str]:
    """Return what is to be said of the length that was asked for, and of longer examples."""
    said: list[str] = []
    asked = spec.optimization.max_length
    if asked not in {"auto", max_length}:
        said.append(
            f"optimization.max_length is {asked}, and the model reads at most {max_length} tokens: "
            "that is what is used"
        )
    measured = {name: _measured(each, max_length) for name, each in counted.items()}
    return said + tell(prepared.task, prepared.report, measured, max_length)


def _measured(counted: list[Counted], max_length: int) -> Measured:
    measured = Measured([each.row for each in counted if each.longest > max_length])
    for each in counted:
        if each.note is not None:
            measured.notes[each.note].append(each.row)
    return measured


def _parameters(
    source: Source | None, made: Student | None, warnings: list[str]
) -> tuple[int, int]:
    """Return how many weights the model has, and of them those in embeddings."""
    if source is not None:
        return size_of(source)
    known = made.num_parameters() if made else None
    why = "the network is made when the job runs" if made else "the model is not on this host"
    assumed = known or ASSUMED
    warnings.append(f"the estimate assumes {assumed[0]:,} parameters: {why}")
    return assumed
