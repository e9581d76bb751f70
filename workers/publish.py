"""From a finished run to a model of the registry: rename, then one fenced transaction.

The folder is complete and synced before the row exists. A crash in between leaves a folder without a
row; the next run of the job removes it before it publishes its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.errors import LeaseLost
from app.jobs import lifecycle
from app.jobs.lifecycle import Claim
from app.kit.db import database_now
from app.models.service import register
from app.store.durable import remove_folder, sync_folder
from app.store.layout import Layout
from app.store.manifest import read_manifest
from workers.protocol import FinishedEvent

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def publish_model(
    write: Callable[[Callable[[Session], None]], None],
    claim: Claim,
    finished: FinishedEvent,
    layout: Layout,
) -> None:
    """T4: make the run's model folder the job's model, and the job succeeded.

    Raises:
        LeaseLost: the job is not this run's any more; the folder is gone again.
        CorruptFolder: the trainer's folder is not what it said.
    """
    read_manifest(finished.folder, finished.manifest_sha256)
    name = claim.job_id.removeprefix("job-")
    for stale in layout.model(name).parent.glob(f"{name}-e*"):
        remove_folder(stale)
    folder = layout.model(f"{name}-e{claim.epoch:04d}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished.folder.rename(folder)
    sync_folder(folder.parent)
    facts = finished.manifest["facts"]

    def commit(session: Session) -> None:
        model = register(
            session,
            tenant_id=claim.tenant_id,
            job_id=claim.job_id,
            model_id=facts["model_id"],
            base=facts["base"],
            task=facts["task"]["kind"],
            folder=layout.relative(folder),
            manifest_sha256=finished.manifest_sha256,
            manifest=finished.manifest,
            metrics=finished.metrics,
            bytes=finished.bytes,
            now=database_now(session),
        )
        lifecycle.succeed(
            session, claim, model_id=model.id, report=finished.report, message=f"Model {model.id}"
        )

    try:
        write(commit)
    except LeaseLost:
        remove_folder(folder)
        raise
