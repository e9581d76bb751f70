"""The dry run: everything about a job that can be known without training it. Torch-free.

It reads the files and fits the task exactly as the trainer will, and tokenizes with the model's own
`tokenizer.json`; where a model has none on this host, lengths are estimated from characters and said so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil

from app.adapt.coverage import unknown_tokens
from app.adapt.dataset import Dataset, prepare
from app.adapt.parallel import read_set
from app.adapt.source import Source, Sources, finished_source
from app.files.repository import FileRepository
from app.jobs.schemas import CheckOut
from app.kit.db import Database
from app.models.repository import ModelRepository
from app.settings import Settings
from app.spec.fine_tune import FineTune
from app.spec.resolve import Facts, estimate, resolve
from app.store.layout import Layout
from app.store.weights import num_parameters, weight_files

CHARACTERS_A_TOKEN = 4
SPECIAL_TOKENS = 3
MAX_LENGTH = 512  # of a model that says nothing, or is not on this host
UNKNOWN = ("[UNK]", "<unk>")  # as WordPiece and SentencePiece models spell it


def check_job(
    database: Database, layout: Layout, settings: Settings, tenant_id: str, spec: FineTune
) -> CheckOut:
    """Return the resolved spec, the data report and an estimate.

    Raises:
        InvalidData: the data cannot train the task.
        InvalidSpec: the model is not known.
    """
    paths: dict[str, dict[str | None, tuple[Path, str]]] = {}
    with database.read() as session:
        files = FileRepository(session, tenant_id)
        for name, sides in spec.data.sets().items():
            paths[name] = {
                role: (layout.file(file_id), files.get(file_id).filename)
                for role, file_id in sides.items()
            }
        source = _source(spec, settings, layout, ModelRepository(session, tenant_id))
    sets: dict[str, Dataset] = {
        name: read_set(sides, f"data.{name}", max_rows=settings.max_rows)
        for name, sides in paths.items()
    }
    prepared = prepare(
        spec.task, spec.data, sets["train"], sets.get("validation"), sets.get("test")
    )
    warnings = list(prepared.warnings)
    texts = [prepared.task.texts(example) for example in prepared.train]
    added = spec.method.added_tokens
    lengths = [length + added for length in _lengths(texts, source, warnings)]
    facts = Facts(
        lengths=lengths,
        num_parameters=_parameters(source, warnings),
        model_max_length=(source.max_positions if source else None) or MAX_LENGTH,
        memory_bytes=psutil.virtual_memory().available,
        device="cpu",
        num_embeddings=_embeddings(source),
        cores=psutil.cpu_count(logical=False) or 1,
    )
    resolved = resolve(spec.model_copy(update={"task": prepared.task}), facts)
    cost = estimate(resolved, facts) | {"device": "cpu", "threads": os.cpu_count()}
    return CheckOut(
        spec=resolved.model_dump(mode="json"),
        data=prepared.report,
        estimate=cost,
        warnings=warnings,
    )


def _source(
    spec: FineTune, settings: Settings, layout: Layout, models: ModelRepository
) -> Source | None:
    """Return the model's folder if it is on this host; a Hub model is not downloaded for a dry run."""
    if spec.model.startswith("ft:"):
        return finished_source(spec.model, layout.absolute(models.get(spec.model).folder))
    return Sources(settings.model_dirs, hub=settings.hub).find_local(spec.model)


def _lengths(texts: list[list[str]], source: Source | None, warnings: list[str]) -> list[int]:
    tokenizer = None if source is None else source.folder / "tokenizer.json"
    if tokenizer is None or not tokenizer.is_file():
        warnings.append("token counts are estimated: the model's tokenizer is not on this host")
        return [sum(map(len, t)) // CHARACTERS_A_TOKEN + SPECIAL_TOKENS for t in texts]
    from tokenizers import Tokenizer

    encoder: Any = Tokenizer.from_file(str(tokenizer))
    encoder.no_truncation()
    encoder.no_padding()
    ids = _token_ids(encoder, texts)
    known = (encoder.token_to_id(name) for name in UNKNOWN)
    unknown_id = next((found for found in known if found is not None), None)
    warning = unknown_tokens(ids, unknown_id)
    if warning is not None:
        warnings.append(f"train: {warning}")
    return [len(each) for each in ids]


def _token_ids(encoder: Any, texts: list[list[str]]) -> list[list[int]]:
    """Return the ids of each example: of a pair as one sequence, of more texts one after the other."""
    if all(len(group) in {1, 2} for group in texts):
        batch = [group[0] if len(group) == 1 else tuple(group) for group in texts]
        return [encoding.ids for encoding in encoder.encode_batch(batch)]
    flat = iter(encoder.encode_batch([text for group in texts for text in group]))
    return [[token for _ in group for token in next(flat).ids] for group in texts]


def _parameters(source: Source | None, warnings: list[str]) -> int:
    if source is None:
        warnings.append(
            "the estimate assumes 110 million parameters: the model is not on this host"
        )
        return 110_000_000
    return sum(num_parameters(path) for path in weight_files(source.folder, source.id))


def _embeddings(source: Source | None) -> int:
    config = {} if source is None else source.config
    return int(config.get("vocab_size", 0)) * int(config.get("hidden_size", 0))
