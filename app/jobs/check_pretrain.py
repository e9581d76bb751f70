"""The dry run of a pretraining: the corpus read as the job will, counted, with an estimate. Torch-free.

A corpus of many gigabytes is not read whole for it: its first part stands for the rest, and that is said.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from app.adapt.corpus import CorpusFile, Reading, Scan, scan_corpus
from app.adapt.dataset import prepare
from app.adapt.parallel import read_set
from app.adapt.source import Source, model_limit
from app.adapt.tokens import CHARACTERS_A_TOKEN
from app.files.repository import FileRepository
from app.jobs.measuring import ASSUMED, find_source, size_of
from app.jobs.schemas import CheckOut
from app.kit.db import Database
from app.settings import Settings
from app.spec.pretrain import Pretrain
from app.spec.resolve_pretrain import CorpusFacts, estimate_pretrain, resolve_pretrain
from app.store.layout import Layout

MAX_BYTES = 64 * 1024 * 1024  # of a corpus that is read whole
COUNTED = 2_000  # documents whose tokens are counted
MAX_LENGTH = 512  # of a model that says nothing, or is not on this host
USUAL = 30_000  # pieces of a tokenizer that is not on this host
AROUND = 2  # special tokens of a row

Sides = Mapping[str | None, tuple[Path, str]]


def check_pretrain(
    database: Database, layout: Layout, settings: Settings, tenant_id: str, spec: Pretrain
) -> CheckOut:
    """Return the resolved spec, the data report and an estimate.

    Raises:
        InvalidData: the corpus cannot be learned from, or the probe's rows do not fit its task.
        InvalidSpec: the model is not known.
    """
    with database.read() as session:
        files = FileRepository(session, tenant_id)
        sets: dict[str, Sides] = {
            field: {
                role: (layout.file(file_id), files.get(file_id).filename)
                for role, file_id in sides.items()
            }
            for field, sides in spec.sets().items()
        }
        model_id = spec.model if isinstance(spec.model, str) else spec.tokenizer
        source = None
        if isinstance(model_id, str):
            source = find_source(model_id, settings, layout, session, tenant_id)
    warnings: list[str] = []
    reading = Reading(_files(sets, "data.train"), spec.data)
    named = _files(sets, "data.validation")
    scan, share = _scan(reading, spec, warnings, is_split=not named)
    data: dict[str, Any] = {"columns": {"text": scan.column}, "train": scan.to_dict()}
    if named:
        data["validation"] = _scan(Reading(named, spec.data), spec, warnings, is_split=False)[
            0
        ].to_dict()
    data |= _probed(spec, sets, settings.max_rows, warnings)
    tokens = round(_tokens(reading, scan, source, warnings) / share)
    facts = _facts(spec, source, tokens, round(scan.documents / share), warnings)
    resolved = resolve_pretrain(spec, facts)
    cost = estimate_pretrain(resolved, facts) | {"device": "cpu", "threads": os.cpu_count()}
    return CheckOut(
        spec=resolved.model_dump(mode="json"), data=data, estimate=cost, warnings=warnings
    )


def _files(sets: Mapping[str, Sides], field: str) -> list[CorpusFile]:
    return [
        CorpusFile(*sides[None], name)
        for name, sides in sets.items()
        if name == field or name.startswith(f"{field}.")
    ]


def _scan(
    reading: Reading, spec: Pretrain, warnings: list[str], *, is_split: bool
) -> tuple[Scan, float]:
    """Return what a corpus comes to, and how much of it was read."""
    size = sum(file.path.stat().st_size for file in reading.files)
    if size <= MAX_BYTES:
        return scan_corpus(reading, spec.data.split if is_split else None)[0], 1.0
    scan = Scan()
    for _ in reading.scanned(scan):
        if scan.characters >= MAX_BYTES // 2:
            break
    if spec.data.on_bad_rows == "fail":
        for problems, file in zip(scan.problems, reading.files, strict=False):
            problems.raise_if_any(param=file.param)
    share = min(1.0, scan.characters / size)
    warnings.append(
        f"only the first {scan.documents:,} documents were read, about {share:.0%} of the corpus: the "
        "counts are estimates"
    )
    return scan, share


def _probed(
    spec: Pretrain, sets: Mapping[str, Sides], max_rows: int, warnings: list[str]
) -> dict[str, Any]:
    if spec.probe is None:
        return {}
    read = {
        name: read_set(sets[f"probe.data.{name}"], f"data.{name}", max_rows=max_rows)
        for name in spec.probe.data.sets()
    }
    prepared = prepare(
        spec.probe.task, spec.probe.data, read["train"], read.get("validation"), read.get("test")
    )
    warnings += [f"probe: {warning}" for warning in prepared.warnings]
    return {f"probe.{name}": section for name, section in prepared.report.items()}


def _tokens(reading: Reading, scan: Scan, source: Source | None, warnings: list[str]) -> float:
    """Return how many tokens the documents that were read come to."""
    path = None if source is None else source.folder / "tokenizer.json"
    if path is None or not path.is_file():
        why = (
            "the vocabulary is learned when the job runs"
            if source is None
            else "the model's tokenizer is not on this host"
        )
        warnings.append(f"token counts are estimated: {why}")
        return scan.characters / CHARACTERS_A_TOKEN
    characters = tokens = 0
    for text, count in _counted(path, islice(reading, COUNTED)):
        characters += len(text)
        tokens += count
    return scan.characters * tokens / max(1, characters)


def _counted(path: Path, texts: Iterator[str]) -> Iterator[tuple[str, int]]:
    from tokenizers import Tokenizer

    encoder: Any = Tokenizer.from_file(str(path))
    encoder.no_truncation()
    encoder.no_padding()
    for text in texts:
        yield text, len(encoder.encode(text, add_special_tokens=False).ids) + 1


def _facts(
    spec: Pretrain, source: Source | None, tokens: int, documents: int, warnings: list[str]
) -> CorpusFacts:
    if isinstance(spec.model, str):
        parameters, embeddings = ASSUMED if source is None else size_of(source)
        limit = model_limit(source) or MAX_LENGTH
        if source is None:
            warnings.append(
                f"the estimate assumes {parameters:,} parameters: the model is not on this host"
            )
    else:
        segmenter = spec.segmenter
        size = segmenter.vocabulary_size if segmenter else _vocabulary(source)
        parameters, embeddings = spec.model.num_parameters(size)
        limit = spec.model.max_length

    def num_rows(length: int, packs: bool) -> int:  # noqa: FBT001 - as the trainer's own
        room = max(1, length - AROUND)
        if packs:
            return math.ceil(tokens / room)
        return documents * math.ceil(tokens / max(1, documents) / room)

    return CorpusFacts(
        tokens=tokens,
        num_documents=documents,
        num_rows=num_rows,
        num_parameters=parameters,
        num_embeddings=embeddings,
        model_max_length=limit,
        memory_bytes=psutil.virtual_memory().available,
        device="cpu",
        is_fresh=not isinstance(spec.model, str),
        cores=psutil.cpu_count(logical=False) or 1,
    )


def _vocabulary(source: Source | None) -> int:
    return int(source.config.get("vocab_size") or USUAL) if source else USUAL
