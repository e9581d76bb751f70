"""Reading jobs and what hangs off them, within one tenant. Writes that move a job are in `lifecycle`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.jobs.state import TERMINAL, State
from app.jobs.tables import Checkpoint, IdempotencyKey, Job, JobEvent, JobMetric, Run
from app.kit.db import db_now
from app.kit.repository import Page, Repository

UNFINISHED = tuple(sorted(set(State) - TERMINAL))


class JobRepository(Repository[Job]):
    """Jobs of a tenant."""

    table = Job
    noun = "job"

    def list_page(
        self,
        *,
        after: str | None,
        limit: int,
        descending: bool,
        state: str | None,
        kind: str | None,
    ) -> Page[Job]:
        """Return one page of jobs, optionally of one state or kind."""
        query = self.scoped()
        if state is not None:
            query = query.where(Job.state == state)
        if kind is not None:
            query = query.where(Job.kind == kind)
        return self.page(query, after=after, limit=limit, descending=descending)

    def count_unfinished(self) -> int:
        """Return how many jobs of the tenant are not in a terminal state."""
        query = select(func.count()).where(
            Job.tenant_id == self.tenant_id, Job.state.in_(UNFINISHED)
        )
        return self.session.scalar(query) or 0

    def unfinished_specs(self) -> list[dict[str, Any]]:
        """Return the specs of the tenant's unfinished jobs; few, because submits are limited."""
        query = select(Job.spec).where(Job.tenant_id == self.tenant_id, Job.state.in_(UNFINISHED))
        return list(self.session.scalars(query))

    def queue_position(self, job: Job) -> int | None:
        """Return how many queued jobs of all tenants go first, 0 for the next; None when not queued."""
        if job.state != State.QUEUED:
            return None
        query = select(func.count()).where(
            Job.state == State.QUEUED, Job.created_at < job.created_at
        )
        return self.session.scalar(query) or 0

    def idempotency(self, key: str) -> IdempotencyKey | None:
        """Return the row of a key that has not expired."""
        query = select(IdempotencyKey).where(
            IdempotencyKey.tenant_id == self.tenant_id,
            IdempotencyKey.key == key,
            IdempotencyKey.expires_at > db_now(),
        )
        return self.session.scalar(query)

    def events(self, job_id: str, *, after: int, limit: int) -> Sequence[JobEvent]:
        """Return events with seq above `after`, oldest first."""
        query = select(JobEvent).where(
            JobEvent.job_id == job_id, JobEvent.tenant_id == self.tenant_id, JobEvent.seq > after
        )
        return self.session.scalars(query.order_by(JobEvent.seq).limit(limit)).all()

    def metrics(self, job_id: str, names: list[str] | None) -> dict[str, list[tuple[int, float]]]:
        """Return every series (or the named ones) as (step, value) points in step order."""
        query = select(JobMetric.name, JobMetric.step, JobMetric.value).where(
            JobMetric.job_id == job_id, JobMetric.tenant_id == self.tenant_id
        )
        if names is not None:
            query = query.where(JobMetric.name.in_(names))
        series: dict[str, list[tuple[int, float]]] = {}
        for name, step, value in self.session.execute(
            query.order_by(JobMetric.name, JobMetric.step)
        ):
            series.setdefault(name, []).append((step, value))
        return series

    def checkpoints(self, job_id: str) -> CheckpointRepository:
        """Return the job's checkpoints, as a repository to page through."""
        return CheckpointRepository(self.session, self.tenant_id, job_id)

    def runs(self, job_id: str) -> RunRepository:
        """Return the job's runs, as a repository to page through."""
        return RunRepository(self.session, self.tenant_id, job_id)


class CheckpointRepository(Repository[Checkpoint]):
    """Checkpoints of one job that can be resumed from."""

    table = Checkpoint
    noun = "checkpoint"

    def __init__(self, session: Session, tenant_id: str, job_id: str) -> None:
        super().__init__(session, tenant_id)
        self.job_id = job_id

    def scoped(self) -> Any:
        """Return the committed checkpoints of the job."""
        return (
            super()
            .scoped()
            .where(Checkpoint.job_id == self.job_id, Checkpoint.state == "committed")
        )

    def newest_first(self) -> Sequence[Checkpoint]:
        """Return all of them, the furthest step first."""
        query = self.scoped().order_by(Checkpoint.step.desc(), Checkpoint.epoch.desc())
        return self.session.scalars(query).all()


class RunRepository(Repository[Run]):
    """Runs of one job."""

    table = Run
    noun = "run"

    def __init__(self, session: Session, tenant_id: str, job_id: str) -> None:
        super().__init__(session, tenant_id)
        self.job_id = job_id

    def scoped(self) -> Any:
        """Return the runs of the job."""
        return super().scoped().where(Run.job_id == self.job_id)
