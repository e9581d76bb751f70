"""The dry run: everything about a job that can be known without training it. Torch-free.

It reads the files and fits the task exactly as the trainer will, and tokenizes with the model's own
`tokenizer.json`; where a model has none on this host, lengths are estimated from characters and said so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app.adapt.dataset import Dataset, Prepared, prepare
from app.adapt.lengths import Measured, tell
from app.adapt.parallel import read_set
from app.adapt.source import Source, model_limit
from app.adapt.student import Student
from app.adapt.tokens import Counted, TokenCounter, estimated
from app.files.repository import FileRepository
from app.jobs.check_pretrain import check_pretrain
from app.jobs.finding import find_source, weights_of
from app.jobs.schemas import CheckOut
from app.kit.db import Database
from app.settings import Settings
from app.spec.distill import Distill
from app.spec.fine_tune import FineTune
from app.spec.job import JobSpec
from app.spec.pretrain import Pretrain
from app.spec.resolve import Facts, estimate, resolve, starts_fresh
from app.store.layout import Layout

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ASSUMED = (110_000_000, 0)  # BERT-base's parameters
MAX_LENGTH = 512  # of a model that says nothing, or is not on this host


def check_job(
    database: Database, layout: Layout, settings: Settings, tenant_id: str, spec: JobSpec
) -> CheckOut:
    """Return the resolved spec, the data report and an estimate.

    Raises:
        InvalidData: the data cannot train the task.
        InvalidSpec: the model is not known.
    """
    if isinstance(spec, Pretrain):
        return check_pretrain(database, layout, settings, tenant_id, spec)
    with database.read() as session:
        files = FileRepository(session, tenant_id)
        paths: dict[str, dict[str | None, tuple[Path, str]]] = {
            name: {
                role: (layout.file(file_id), files.get(file_id).filename)
                for role, file_id in sides.items()
            }
            for name, sides in spec.data.sets().items()
        }
        source = _source(spec, settings, layout, session, tenant_id)
    sets: dict[str, Dataset] = {
        name: read_set(sides, f"data.{name}", max_rows=settings.max_rows)
        for name, sides in paths.items()
    }
    prepared = prepare(
        spec.task, spec.data, sets["train"], sets.get("validation"), sets.get("test")
    )
    warnings = list(prepared.warnings)
    counted = _count(prepared, source, spec.method.added_tokens, warnings)
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
    spec: FineTune | Distill, source: Source | None, counted: Sequence[Counted], warnings: list[str]
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


def _source(
    spec: FineTune | Distill, settings: Settings, layout: Layout, session: Session, tenant_id: str
) -> Source | None:
    """Return the model's folder if it is on this host; what is made for the job is not there yet."""
    model_id = spec.model if isinstance(spec.model, str) else spec.model.source()
    if model_id is None:
        return None
    return find_source(model_id, settings, layout, session, tenant_id)


def _count(
    prepared: Prepared, source: Source | None, added: int, warnings: list[str]
) -> dict[str, list[Counted]]:
    """Count the tokens of every example of every set, with those that a method adds to each."""
    tokenizer = None if source is None else source.folder / "tokenizer.json"
    counter = None
    if tokenizer is None or not tokenizer.is_file():
        warnings.append("token counts are estimated: the model's tokenizer is not on this host")
    else:
        counter = TokenCounter(tokenizer)
    sets = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    counted: dict[str, list[Counted]] = {}
    for name, examples in sets.items():
        if not examples:
            continue
        if counter is None:
            found = [estimated(prepared.task, example) for example in examples]
        else:
            found = counter.count(prepared.task, examples)
            warning = counter.warning() if name == "train" else None
            if warning is not None:
                warnings.append(f"train: {warning}")
        counted[name] = [
            replace(each, total=each.total + added, longest=each.longest + added) for each in found
        ]
    return counted


def _told_of_length(
    spec: FineTune | Distill, prepared: Prepared, counted: dict[str, list[Counted]], max_length: int
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
    if source is None:
        known = made.num_parameters() if made else None
        why = "the network is made when the job runs" if made else "the model is not on this host"
        assumed = known or ASSUMED
        warnings.append(f"the estimate assumes {assumed[0]:,} parameters: {why}")
        return assumed
    return weights_of(source)
