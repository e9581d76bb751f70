"""Names, entries and files of finished models. Takes a session, never commits; reads no weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import Conflict, NotFound
from app.kit.ids import short_id
from app.models.repository import ModelRepository
from app.models.tables import Model

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PREFIX = "ft:"
MAX_BASE = 64
MAX_SUFFIX = 64


def model_id_for(base: str, suffix: str | None) -> str:
    """Return a new id `ft:<base>:<suffix>:<10 random characters>`: at most 160 long, no slash.

    Of `org/name` only the name is kept; of a finished model its base, so that ids never grow.
    """
    name = base.removeprefix(PREFIX).split(":")[0] if base.startswith(PREFIX) else base
    part = _slug(name.rpartition("/")[2], MAX_BASE) or "model"
    return f"{PREFIX}{part}:{_slug(suffix or '', MAX_SUFFIX)}:{short_id()}"


def _slug(text: str, length: int) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:length].strip("-.")


def register(  # noqa: PLR0913 - the columns of a row, all by name
    session: Session, *, tenant_id: str, job_id: str, model_id: str, base: str, task: str,
    folder: str, manifest_sha256: str, manifest: dict[str, Any], metrics: dict[str, float],
    bytes: int, now: float,  # noqa: A002 - the column's name
) -> Model:  # fmt: skip
    """Enter a finished model; `folder` is relative to the store, complete and durable already."""
    model = Model(
        id=model_id,
        tenant_id=tenant_id,
        job_id=job_id,
        base=base,
        task=task,
        folder=folder,
        manifest_sha256=manifest_sha256,
        manifest=manifest,
        metrics=metrics,
        bytes=bytes,
        created_at=now,
    )
    return ModelRepository(session, tenant_id).add(model)


def delete(
    session: Session, tenant_id: str, model_id: str, in_use: Callable[[Session, str, str], bool]
) -> Model:
    """Delete a model's row and return it; the folder goes after the commit, never before.

    Raises:
        NotFound: no such model.
        Conflict: an unfinished job starts from it.
    """
    models = ModelRepository(session, tenant_id)
    model = models.get(model_id, lock="exclusive")
    if in_use(session, tenant_id, model_id):
        message = f"an unfinished job starts from {model_id}; cancel the job or wait for its end"
        raise Conflict(message, code="model_in_use")
    models.remove(model)
    return model


def listed_file(model: Model, folder: Path, name: str) -> Path:
    """Return the path of one of the model's files; only names in the manifest lead anywhere.

    Raises:
        NotFound: the manifest does not list it, or it has gone from the store.
    """
    path = folder / name
    if name not in model.manifest.get("files", {}) or not path.is_file():
        message = f"model {model.id} has no file {name!r}"
        raise NotFound(message, param="path")
    return path
