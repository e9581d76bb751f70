"""From a claimed job's rows to everything its trainer needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import NotFound, TrainingFailed
from app.files.repository import FileRepository
from app.jobs.lifecycle import Claim
from app.jobs.repository import JobRepository
from app.models.repository import ModelRepository
from app.models.service import model_id_for
from app.settings import Settings
from app.spec.job import parse_spec
from app.store.layout import Layout
from workers.protocol import Assignment, CheckpointRef, InputFile

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
    models = {}
    try:
        for file_id in spec.data.file_ids():
            file = FileRepository(session, claim.tenant_id).get(file_id)
            files[file_id] = InputFile(
                id=file.id, filename=file.filename, path=layout.file(file.id), sha256=file.sha256
            )
        if spec.model.startswith("ft:"):
            model = ModelRepository(session, claim.tenant_id).get(spec.model)
            models[model.id] = layout.absolute(model.folder)
    except NotFound as error:
        message = f"{error.message}: it was there when the job was submitted"
        raise TrainingFailed(message, code="input_gone") from error
    checkpoints = [
        CheckpointRef(
            id=row.id,
            step=row.step,
            folder=layout.absolute(row.folder),
            manifest_sha256=row.manifest_sha256,
            is_best=row.is_best,
        )
        for row in jobs.checkpoints(job.id).newest_first()
    ]
    return Assignment(
        job_id=job.id,
        epoch=claim.epoch,
        model_id=model_id_for(spec.model, spec.suffix),
        spec=job.spec,
        files=files,
        models=models,
        checkpoints=checkpoints,
        folder=layout.run(job.id, claim.epoch),
        model_dirs=settings.model_dirs,
        hub=settings.hub,
        lease_ttl_s=settings.lease_ttl_s,
    )
