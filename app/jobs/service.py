"""What can be done with jobs, apart from running them. Takes a session, never commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from app.adapt.plugins import AnyTask
from app.adapt.source import Sources, described
from app.adapt.task import Task
from app.errors import Conflict, InvalidSpec, KeyReused, NotFound, Overloaded
from app.files.repository import FileRepository
from app.jobs import lifecycle
from app.jobs.repository import JobRepository
from app.jobs.state import TERMINAL, State
from app.jobs.tables import IdempotencyKey, Job
from app.kit.canonical import fingerprint
from app.kit.db import database_now
from app.kit.ids import new_id
from app.models.repository import ModelRepository
from app.models.service import PREFIX
from app.settings import Settings
from app.spec.answering import Answering
from app.spec.base import Sides
from app.spec.job import JobSpec, makes_model, makes_sources, parse_spec, parse_training

CHECKPOINT_PREFIX = "ckpt-"
_TASK: TypeAdapter[Task] = TypeAdapter(AnyTask)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.files.tables import File
    from app.models.tables import Model


@dataclass(frozen=True)
class Idempotency:
    """A caller's key and the fingerprint of the request it came with."""

    key: str
    request_sha256: str


@dataclass(frozen=True)
class Submitted:
    """The job, its place in the queue, and whether it is an earlier answer to the same key."""

    job: Job
    queue_position: int | None
    is_replay: bool = False


class JobService:
    """Jobs of one tenant."""

    def __init__(self, session: Session, tenant_id: str, settings: Settings) -> None:
        self.session = session
        self.tenant_id = tenant_id
        self.settings = settings
        self.jobs = JobRepository(session, tenant_id)

    def submit(self, spec: JobSpec, idempotency: Idempotency | None = None) -> Submitted:
        """Accept a job: row, first event and outbox row, all or nothing.

        Raises:
            InvalidSpec: unknown files, columns or models; `param` names the first.
            Overloaded: the tenant has too many unfinished jobs.
            KeyReused: the idempotency key came with another request before.
        """
        job_id = new_id("job")
        if idempotency is not None:
            earlier = self._replay(idempotency, job_id)
            if earlier is not None:
                return Submitted(*earlier, is_replay=True)
        self.check_references(spec)
        backlog = self.jobs.backlog()
        if backlog.unfinished >= self.settings.max_queued_jobs:
            message = f"this tenant has {self.settings.max_queued_jobs} unfinished jobs, the limit"
            raise Overloaded(message, code="too_many_jobs")
        now = backlog.now
        limit_s = spec.runtime.max_runtime_s
        stored = spec.model_dump(mode="json")
        job = Job(
            id=job_id,
            tenant_id=self.tenant_id,
            kind=spec.kind,
            spec=stored,
            spec_sha256=fingerprint(stored),
            state=State.QUEUED,
            created_at=now,
            run_after=now,
            deadline_at=None if limit_s is None else now + limit_s,
        )
        lifecycle.accept(self.session, job)
        return Submitted(job, backlog.queued)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; one that is cancelled or being cancelled stays so.

        Raises:
            NotFound: no such job.
            Conflict: the job has succeeded or failed.
        """
        job = self.jobs.get(job_id)
        state = lifecycle.request_cancel(self.session, job.id)
        if state in TERMINAL and state != State.CANCELLED:
            message = f"job {job_id} has {state} already"
            raise Conflict(message, code="job_finished", details={"state": state})
        self.session.refresh(job)
        return job

    def check_references(self, spec: JobSpec) -> JobSpec:
        """Check what the spec names and the database can answer at once: files, columns, models.

        Return the spec as it is once what its models do is known.

        Raises:
            InvalidSpec: one of them is not there; `param` is the field that names it.
        """
        sets = {field: self._find_files(field, sides) for field, sides in spec.sets().items()}
        models = {param: self._find_model(param, id_) for param, id_ in spec.model_ids().items()}
        if isinstance(spec, Answering):
            spec = spec.knowing(tasks_of(models, spec.head))
        for field, sides in spec.sets().items():
            found = sets[field]
            # Parallel files have a column for each role; of what is in them, the trainer is the judge.
            summary = (found[0].summary or {}).get("columns", []) if None in sides else []
            names = [column["name"] for column in summary] or [str(role) for role in sides]
            spec.check_set(field, names, summary, found[0].filename)
        return spec

    def _find_files(self, field: str, sides: Sides) -> list[File]:
        files = FileRepository(self.session, self.tenant_id)
        found: list[File] = []
        for role, file_id in sides.items():
            param = field if role is None else f"{field}.{role}"
            try:
                found.append(files.get(file_id, lock="shared"))
            except NotFound:
                message = f"{param}: no file {file_id!r}; upload it with POST /v1/files"
                raise InvalidSpec(message, param=param, code="file_not_found") from None
        return found

    def _find_model(self, param: str, model_id: str) -> Model | Job | None:
        """Return a finished model, or the job that made a checkpoint; None of a base model."""
        if model_id.startswith(CHECKPOINT_PREFIX):
            return self._check_checkpoint(param, model_id)
        if model_id.startswith(PREFIX):
            try:
                return ModelRepository(self.session, self.tenant_id).get(model_id, lock="shared")
            except NotFound:
                message = f"{param}: no finished model {model_id!r}; GET /v1/models lists them"
                raise InvalidSpec(message, param=param, code="model_not_found") from None
        sources = Sources(self.settings.model_dirs, hub=self.settings.hub)
        sources.check_name(model_id, param=param)
        return None

    def _check_checkpoint(self, param: str, checkpoint_id: str) -> Job:
        """A job that is still at work drops its older checkpoints; a finished one keeps what it has."""
        found = self.jobs.checkpoint(checkpoint_id)
        if found is None:
            message = (
                f"{param}: no checkpoint {checkpoint_id!r}; /v1/jobs/<id>/checkpoints lists a job's"
            )
            raise InvalidSpec(message, param=param, code="model_not_found")
        _, job = found
        if job.state not in TERMINAL:
            message = (
                f"{param}: the job that {checkpoint_id} is of, {job.id}, is {job.state} and may drop it; "
                "wait for its end, or cancel it"
            )
            raise InvalidSpec(message, param=param, code="job_not_finished")
        if not makes_sources(job.kind):
            what = "of several tasks" if makes_model(job.kind) else "a part of the output"
            message = f"{param}: {checkpoint_id} is {what} of {job.id}, and no model of one task"
            raise InvalidSpec(message, param=param, code="model_not_found")
        return job

    def _replay(self, idempotency: Idempotency, job_id: str) -> tuple[Job, int | None] | None:
        row = IdempotencyKey(
            tenant_id=self.tenant_id,
            key=idempotency.key,
            request_sha256=idempotency.request_sha256,
            resource_id=job_id,
            expires_at=database_now(self.session) + self.settings.idempotency_ttl_s,
        )
        if lifecycle.reserve_key(self.session, row):
            return None
        earlier = self.jobs.idempotency(idempotency.key)
        if earlier is None:
            message = "this Idempotency-Key is just expiring; send the request again"
            raise Conflict(message, code="idempotency_key_expiring")
        if earlier.request_sha256 != idempotency.request_sha256:
            message = f"Idempotency-Key {idempotency.key!r} came with another request before"
            raise KeyReused(message, param="Idempotency-Key")
        return self.jobs.get_placed(earlier.resource_id)


def tasks_of(models: Mapping[str, Model | Job | None], head: str | None = None) -> dict[str, Task]:
    """Return the tasks of finished models and checkpoints by the field that names each.

    `head` names the one that is asked for of a model that does several.

    Raises:
        InvalidSpec: one that this version does not know, or knows with other fields.
    """
    tasks: dict[str, Task] = {}
    for param, found in models.items():
        if isinstance(found, Job):
            tasks[param] = parse_training(found.resolved or found.spec).task
        elif found is not None:
            try:
                facts = described(found.manifest["facts"], head, found.id)
                tasks[param] = _TASK.validate_python(facts["task"])
            except ValidationError as error:
                message = (
                    f"{param}: {found.id} was made by a version of Attune that differs too much"
                )
                raise InvalidSpec(message, param=param, code="incompatible_model") from error
    return tasks


def file_in_use(session: Session, tenant_id: str, file_id: str) -> bool:
    """Say whether an unfinished job of the tenant needs this file."""
    specs = JobRepository(session, tenant_id).unfinished_specs()
    return any(file_id in parse_spec(spec).file_ids() for spec in specs)


def model_in_use(session: Session, tenant_id: str, model_id: str) -> bool:
    """Say whether an unfinished job of the tenant starts from this model."""
    specs = JobRepository(session, tenant_id).unfinished_specs()
    return any(model_id in parse_spec(spec).model_ids().values() for spec in specs)
