"""Everything that the life of a job is made of: the job, its runs, events, metrics, checkpoints, outbox.

Times are unix seconds. Lease times are database time (`db_now`), nothing else may be compared with them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base

Id = String(40)

# Literals, not parameters: a database uses a partial index only for a condition that it can read in the
# statement (https://www.sqlite.org/partialindex.html, section 3).
IS_QUEUED = text("jobs.state = 'queued'")
IS_HELD = text("jobs.state IN ('running', 'cancelling')")
IS_UNFINISHED = text("jobs.state IN ('queued', 'running', 'cancelling')")


class Job(Base):
    """What a user asked for, and where it stands. `lease_epoch` only ever grows: it fences writes."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "tenant_id", "created_at"),
        Index("ix_jobs_claimable", "created_at", "id", sqlite_where=text("state = 'queued'"),
              postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_held", "lease_expires_at",
              sqlite_where=text("state IN ('running', 'cancelling')"),
              postgresql_where=text("state IN ('running', 'cancelling')")),
        Index("ix_jobs_unfinished", "tenant_id", "state",
              sqlite_where=text("state IN ('queued', 'running', 'cancelling')"),
              postgresql_where=text("state IN ('queued', 'running', 'cancelling')")),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str] = mapped_column(String(32))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec_sha256: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    run_after: Mapped[float]
    deadline_at: Mapped[float | None]
    cancel_requested_at: Mapped[float | None]

    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_epoch: Mapped[int] = mapped_column(Integer, default=0)
    lease_expires_at: Mapped[float | None]
    crashes_since_progress: Mapped[int] = mapped_column(Integer, default=0)

    phase: Mapped[str | None] = mapped_column(String(16))
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    resolved: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    last_checkpoint_id: Mapped[str | None] = mapped_column(Id)
    model_id: Mapped[str | None] = mapped_column(String(160))
    dispatched_at: Mapped[float | None]
    last_seq: Mapped[int] = mapped_column(Integer, default=0)


class Run(Base):
    """One attempt at a job by one worker; `epoch` is the lease epoch it ran under."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("job_id", "epoch"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    epoch: Mapped[int]
    worker: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
    outcome: Mapped[str | None] = mapped_column(String(32))
    resumed_from_step: Mapped[int | None]
    environment: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class JobEvent(Base):
    """The job's history; `seq` is gapless from 1 and is the id of server-sent events."""

    __tablename__ = "job_events"
    __table_args__ = (PrimaryKeyConstraint("job_id", "seq"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    seq: Mapped[int]
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    created_at: Mapped[float]
    type: Mapped[str] = mapped_column(String(16))
    level: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(Text)
    lease_epoch: Mapped[int]
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class JobMetric(Base):
    """One point of a series; a replayed step overwrites instead of doubling."""

    __tablename__ = "job_metrics"
    __table_args__ = (PrimaryKeyConstraint("job_id", "name", "step"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    step: Mapped[int]
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    value: Mapped[float]
    created_at: Mapped[float]


class Checkpoint(Base):
    """A resumable state that is durable in the store; `state` is committed, quarantined or deleted."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step", "epoch"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    epoch: Mapped[int]
    step: Mapped[int]
    folder: Mapped[str] = mapped_column(String(255))
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, float]] = mapped_column(JSON)
    is_best: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]


class Outbox(Base):
    """A hint that the broker still has to be given; written in the transaction that needs it."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_pending", "available_at", sqlite_where=text("published_at IS NULL"),
              postgresql_where=text("published_at IS NULL")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    kind: Mapped[str] = mapped_column(String(16))
    job_id: Mapped[str] = mapped_column(Id, index=True)
    created_at: Mapped[float]
    available_at: Mapped[float]
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    published_at: Mapped[float | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class IdempotencyKey(Base):
    """The first answer to a request that carried an Idempotency-Key."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "key"),)

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key: Mapped[str] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    resource_id: Mapped[str] = mapped_column(Id)
    expires_at: Mapped[float]


class Worker(Base):
    """A worker that has been seen; `draining` ones claim nothing."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(128))
    started_at: Mapped[float]
    last_seen_at: Mapped[float]
    draining: Mapped[bool]


class Leader(Base):
    """Which replica sweeps; one row a role, held like a lease."""

    __tablename__ = "leaders"

    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    holder: Mapped[str] = mapped_column(String(128))
    expires_at: Mapped[float]
