"""What a dry run knows of a model without loading it: where it lies, its size, how it counts tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from app.adapt.source import Source, Sources, checkpoint_source, finished_source
from app.adapt.task import Example, Task
from app.adapt.tokens import Counted, TokenCounter, estimated
from app.jobs.repository import JobRepository
from app.jobs.service import CHECKPOINT_PREFIX
from app.models.repository import ModelRepository
from app.models.service import PREFIX
from app.settings import Settings
from app.store.layout import Layout
from app.store.weights import num_parameters, weight_files

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ASSUMED = (110_000_000, 0)  # BERT-base's parameters


def find_source(
    model_id: str | None, settings: Settings, layout: Layout, session: Session, tenant_id: str
) -> Source | None:
    """Return the model's folder if it is on this host; a Hub model is not downloaded for a dry run.

    Of a checkpoint it is what tells everything but the weights. What is made for the job is not there yet.
    """
    if model_id is None:
        return None
    if model_id.startswith(PREFIX):
        model = ModelRepository(session, tenant_id).get(model_id)
        return finished_source(model_id, layout.absolute(model.folder))
    if model_id.startswith(CHECKPOINT_PREFIX):
        found = JobRepository(session, tenant_id).checkpoint(model_id)
        folder = None if found is None else layout.absolute(found[0].folder)
        return None if folder is None else checkpoint_source(model_id, folder)
    return Sources(settings.model_dirs, hub=settings.hub).find_local(model_id)


def count_tokens(
    task: Task, sets: Mapping[str, Sequence[Example]], source: Source | None, warnings: list[str],
    added: int = 0,
) -> dict[str, list[Counted]]:  # fmt: skip
    """Count the tokens of every example of every set, with those that a method adds to each.

    Advice is about the first set.
    """
    tokenizer = None if source is None else source.folder / "tokenizer.json"
    counter = None
    if tokenizer is None or not tokenizer.is_file():
        warnings.append("token counts are estimated: the model's tokenizer is not on this host")
    else:
        counter = TokenCounter(tokenizer)
    counted: dict[str, list[Counted]] = {}
    first = next(iter(sets))
    for name, examples in sets.items():
        if not examples:
            continue
        if counter is None:
            found = [estimated(task, example) for example in examples]
        else:
            found = counter.count(task, examples)
            warning = counter.warning() if name == first else None
            if warning is not None:
                warnings.append(f"{name}: {warning}")
        counted[name] = [
            replace(each, total=each.total + added, longest=each.longest + added) for each in found
        ]
    return counted


def size_of(source: Source) -> tuple[int, int]:
    """Return how many weights the model has, and of them those in embeddings."""
    config = source.config
    # ALBERT and recurrent networks have embeddings of a width of their own.
    width = config.get("embedding_size") or config.get("hidden_size") or 0
    embeddings = int(config.get("vocab_size") or 0) * int(width)
    if source.kind == "checkpoint":
        return num_parameters(source.folder.with_name("network.safetensors")), embeddings
    files = weight_files(source.folder, source.id)
    return sum(num_parameters(path) for path in files), embeddings
