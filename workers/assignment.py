"""From a claimed job's rows to everything its trainer needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import NotFound, TrainingFailed
from app.files.repository import FileRepository
from app.jobs.lifecycle import Claim
from app.jobs.repository import JobRepository
from app.jobs.service import CHECKPOINT_PREFIX
from app.models.repository import ModelRepository
from app.models.service import PREFIX, model_id_for
from app.settings import Settings
from app.spec.base import ModelSpec
from app.spec.job import parse_spec
from app.store.layout import Layout
from workers.protocol import Assignment, CheckpointRef, InputFile, SourceCheckpoint

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def build_assignment(
    session: Session, claim: Claim, layout: Layout, settings: Settings
) -> Assignment:
    """Read the job, its files, its source model and its checkpoints.

    Raises:
        TrainingFailed: a file or a model that the spec names has gone.
    """
    jobs = JobRepository(session, claim.tenant_id)
    job = jobs.get(claim.job_id)
    spec = parse_spec(job.spec)
    files: dict[str, InputFile] = {}
    try:
        for file_id in spec.file_ids():
            file = FileRepository(session, claim.tenant_id).get(file_id)
            files[file_id] = InputFile(
                id=file.id, filename=file.filename, path=layout.file(file.id), sha256=file.sha256
            )
        models = ModelRepository(session, claim.tenant_id)
        ids = spec.model_ids().values()
        folders = {
            model_id: layout.absolute(models.get(model_id).folder)
            for model_id in ids
            if model_id.startswith(PREFIX)
        }
        sources = {
            model_id: _source(jobs, model_id, layout)
            for model_id in ids
            if model_id.startswith(CHECKPOINT_PREFIX)
        }
    except NotFound as error:
        message = f"{error.message}: it was there when the job was submitted"
        raise TrainingFailed(message, code="input_gone") from error
    return Assignment(
        job_id=job.id,
        epoch=claim.epoch,
        model_id=model_id_for(spec.base, spec.suffix) if isinstance(spec, ModelSpec) else None,
        spec=job.spec,
        files=files,
        models=folders,
        sources=sources,
        checkpoints=_checkpoints(jobs, job.id, layout),
        folder=layout.run(job.id, claim.epoch),
        cache=layout.cache(claim.tenant_id),
        model_dirs=settings.model_dirs,
        hub=settings.hub,
        lease_ttl_s=settings.lease_ttl_s,
    )


def _checkpoints(jobs: JobRepository, job_id: str, layout: Layout) -> list[CheckpointRef]:
    return [
        CheckpointRef(
            id=row.id,
            step=row.step,
            folder=layout.absolute(row.folder),
            manifest_sha256=row.manifest_sha256,
            is_best=row.is_best,
        )
        for row in jobs.checkpoints(job_id).newest_first()
    ]


def _source(jobs: JobRepository, checkpoint_id: str, layout: Layout) -> SourceCheckpoint:
    found = jobs.checkpoint(checkpoint_id)
    if found is None:
        message = f"no checkpoint {checkpoint_id!r}"
        raise NotFound(message)
    checkpoint, job = found
    return SourceCheckpoint(
        folder=layout.absolute(checkpoint.folder),
        manifest_sha256=checkpoint.manifest_sha256,
        spec=job.resolved or job.spec,
    )
