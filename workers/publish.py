"""From a finished run to a model of the registry, or to files: rename, then one fenced transaction.

What is published is complete and synced before its row exists. A crash in between leaves a folder without
a row, which the next run of the job removes before it publishes its own, or a file without one, which
`app.jobs.garbage` finds: nobody ever saw its id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.errors import LeaseLost
from app.files.repository import FileRepository
from app.files.tables import File
from app.jobs import lifecycle, recording
from app.jobs.lifecycle import Claim
from app.kit.db import after_commit, database_now
from app.kit.ids import new_id
from app.models.service import register
from app.store.durable import remove_folder, sync_folder
from app.store.layout import Layout
from app.store.manifest import read_manifest
from workers.protocol import DoneEvent, FinishedEvent, OutputFile

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


def publish_result(
    write: Callable[[Callable[[Session], None]], None],
    claim: Claim,
    done: DoneEvent,
    layout: Layout,
) -> None:
    """T4: make the run's outputs files of the tenant, and the job succeeded; its parts are let go.

    Raises:
        LeaseLost: the job is not this run's any more; the files are gone again.
    """
    placed = {new_id("file"): output for output in done.outputs}
    for file_id, output in placed.items():
        final = layout.file(file_id)
        final.parent.mkdir(parents=True, exist_ok=True)
        output.path.rename(final)
        sync_folder(final.parent)

    def commit(session: Session) -> None:
        lifecycle.fenced(session, claim, last_checkpoint_id=None)
        files = FileRepository(session, claim.tenant_id)
        now = database_now(session)
        for file_id, output in placed.items():
            files.add(_file(claim, file_id, output, now))
        parts = [layout.absolute(f) for f in recording.drop_checkpoints(session, claim, keep=0)]
        after_commit(session, lambda: [remove_folder(folder) for folder in parts])
        lifecycle.succeed(
            session, claim, report=done.report, message=done.message, result_files=list(placed)
        )

    try:
        write(commit)
    except LeaseLost:
        for file_id in placed:
            layout.file(file_id).unlink(missing_ok=True)
        raise


def _file(claim: Claim, file_id: str, output: OutputFile, now: float) -> File:
    return File(
        id=file_id,
        tenant_id=claim.tenant_id,
        filename=output.filename,
        purpose=output.purpose,
        bytes=output.bytes,
        sha256=output.sha256,
        status="processed",
        summary=output.summary,
        created_at=now,
    )
