"""The two job routes as anybody writes them first, on FastAPI and SQLAlchemy: what ours are compared with.

One table with the columns of ours, the same body and answer models, the same pragmas of SQLite. No keys,
no history, no outbox, no limits, no request ids, no log of requests.

    python -m tests.benchmarks.bare FOLDER PORT
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Generator
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import JSON, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from app.spec.fine_tune import FineTune


class Base(DeclarativeBase):
    """Base of the one table."""


class Job(Base):
    """A job, with every column that ours has."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    kind: Mapped[str]
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec_sha256: Mapped[str]
    state: Mapped[str]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    run_after: Mapped[float]
    deadline_at: Mapped[float | None]
    cancel_requested_at: Mapped[float | None]
    lease_owner: Mapped[str | None]
    lease_epoch: Mapped[int] = mapped_column(default=0)
    lease_expires_at: Mapped[float | None]
    crashes_since_progress: Mapped[int] = mapped_column(default=0)
    phase: Mapped[str | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    resolved: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    last_checkpoint_id: Mapped[str | None]
    model_id: Mapped[str | None]
    dispatched_at: Mapped[float | None]
    last_seq: Mapped[int] = mapped_column(default=0)


class JobOut(BaseModel):
    """An answer of the same shape as ours."""

    id: str
    object: str = "job"
    kind: str
    state: str
    phase: str | None
    progress: dict[str, Any] | None
    queue_position: int | None
    model: str
    model_id: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    deadline_at: float | None
    runs: int
    last_checkpoint_id: str | None
    error: dict[str, Any] | None
    report: dict[str, Any] | None
    metadata: dict[str, str]
    spec: dict[str, Any]
    resolved: dict[str, Any] | None


def answer(job: Job) -> JobOut:
    """Return a row as an answer."""
    return JobOut(
        id=job.id,
        kind=job.kind,
        state=job.state,
        phase=job.phase,
        progress=job.progress,
        queue_position=None,
        model=job.spec["model"],
        model_id=job.model_id,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        deadline_at=job.deadline_at,
        runs=job.lease_epoch,
        last_checkpoint_id=job.last_checkpoint_id,
        error=job.error,
        report=job.report,
        metadata=job.spec["metadata"],
        spec=job.spec,
        resolved=job.resolved,
    )


engine = create_engine(f"sqlite:///{sys.argv[1]}/bare.db")
Sessions = sessionmaker(engine)
app = FastAPI()


@event.listens_for(engine, "connect")
def _configure(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def get_session() -> Generator[Session]:
    """Give a request its session."""
    with Sessions() as session:
        yield session


Db = Annotated[Session, Depends(get_session)]


@app.post("/v1/jobs", status_code=201)
def create_job(body: FineTune, session: Db) -> JobOut:
    """Insert a row."""
    now = time.time()
    job = Job(
        id=f"job-{uuid.uuid4()}",
        tenant_id="default",
        kind=body.kind,
        spec=body.model_dump(mode="json"),
        spec_sha256="",
        state="queued",
        created_at=now,
        run_after=now,
    )
    session.add(job)
    session.commit()
    return answer(job)


@app.get("/v1/jobs/{job_id}")
def get_job(job_id: str, session: Db) -> JobOut:
    """Read a row."""
    job = session.get(Job, job_id)
    if job is None:
        raise HTTPException(404)
    return answer(job)


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
