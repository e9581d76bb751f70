"""Reading jobs and what hangs off them, within one tenant. Writes that move a job are in `lifecycle`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, case, func, select, text
from sqlalchemy.orm import Session, aliased

from app.jobs.state import State
from app.jobs.tables import (
    IS_QUEUED,
    IS_UNFINISHED,
    Checkpoint,
    IdempotencyKey,
    Job,
    JobEvent,
    JobMetric,
    Run,
)
from app.kit.db import db_now
from app.kit.repository import Page, Repository

# The statements of the two busiest routes are made once: making one costs more than running it.
_BACKLOG = select(
    db_now(),
    select(func.count())
    .select_from(Job)
    .where(Job.tenant_id == bindparam("tenant_id"), IS_UNFINISHED)
    .scalar_subquery(),
    select(func.count()).select_from(Job).where(IS_QUEUED).scalar_subquery(),
)
_OTHER = aliased(Job, name="other")
_PLACE = case(
    (
        Job.state == State.QUEUED,
        select(func.count())
        .select_from(_OTHER)
        .where(text("other.state = 'queued'"), _OTHER.created_at < Job.created_at)
        .scalar_subquery(),
    )
)


class Backlog(NamedTuple):
    """The database's clock, the tenant's unfinished jobs, and the queued jobs of all tenants."""

    now: float
    unfinished: int
    queued: int


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

    def backlog(self) -> Backlog:
        """Return what a submit has to know, in one statement."""
        row = self.session.execute(_BACKLOG, {"tenant_id": self.tenant_id}).one()
        return Backlog(*row)

    def unfinished_specs(self) -> list[dict[str, Any]]:
        """Return the specs of the tenant's unfinished jobs; few, because submits are limited."""
        query = select(Job.spec).where(Job.tenant_id == self.tenant_id, IS_UNFINISHED)
        return list(self.session.scalars(query))

    def get_placed(self, job_id: str) -> tuple[Job, int | None]:
        """Return a job and how many queued jobs of all tenants go first, in one statement.

        The place is 0 for the next one, None when the job is not queued.

        Raises:
            NotFound: no such job of this tenant.
        """
        query = self.scoped().add_columns(_PLACE)
        row = self.session.execute(query.where(Job.id == job_id)).one_or_none()
        if row is None:
            raise self.missing(job_id)
        return row[0], row[1]

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

    def checkpoint(self, checkpoint_id: str) -> tuple[Checkpoint, Job] | None:
        """Return a checkpoint that is there, of any job of the tenant, with its job."""
        query = select(Checkpoint, Job).join(Job, Checkpoint.job_id == Job.id)
        row = self.session.execute(
            query.where(
                Checkpoint.id == checkpoint_id,
                Checkpoint.tenant_id == self.tenant_id,
                Checkpoint.state == "committed",
            )
        ).one_or_none()
        return None if row is None else (row[0], row[1])

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
