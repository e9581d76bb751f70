"""Where a model that a spec names lies on this host, for a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.adapt.source import Source, Sources, checkpoint_source, finished_source
from app.jobs.repository import JobRepository
from app.jobs.service import CHECKPOINT_PREFIX
from app.models.repository import ModelRepository
from app.models.service import PREFIX
from app.settings import Settings
from app.store.layout import Layout
from app.store.weights import num_parameters, weight_files

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def find_source(
    model_id: str, settings: Settings, layout: Layout, session: Session, tenant_id: str
) -> Source | None:
    """Return the model's folder if it is on this host; a Hub model is not downloaded for a dry run.

    Of a checkpoint it is what tells everything but the weights.
    """
    if model_id.startswith(PREFIX):
        model = ModelRepository(session, tenant_id).get(model_id)
        return finished_source(model_id, layout.absolute(model.folder))
    if model_id.startswith(CHECKPOINT_PREFIX):
        found = JobRepository(session, tenant_id).checkpoint(model_id)
        folder = None if found is None else layout.absolute(found[0].folder)
        return None if folder is None else checkpoint_source(model_id, folder)
    return Sources(settings.model_dirs, hub=settings.hub).find_local(model_id)


def weights_of(source: Source) -> tuple[int, int]:
    """Return how many weights a model has, and of them those in embeddings."""
    config = source.config
    # ALBERT and recurrent networks have embeddings of a width of their own.
    width = config.get("embedding_size") or config.get("hidden_size") or 0
    embeddings = int(config.get("vocab_size") or 0) * int(width)
    if source.kind == "checkpoint":
        return num_parameters(source.folder.with_name("network.safetensors")), embeddings
    files = weight_files(source.folder, source.id)
    return sum(num_parameters(path) for path in files), embeddings
