"""What the jobs routes answer."""

from __future__ import annotations

from typing import Any, Literal

from app.jobs.tables import Checkpoint, Job, JobEvent, Run
from app.kit.schema import Schema


class JobOut(Schema):
    """A job: what was asked, where it stands, what came of it. Times are unix seconds."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    state: str
    phase: str | None
    progress: dict[str, Any] | None
    queue_position: int | None
    model: str
    model_id: str | None
    result_files: list[str]
    created_at: int
    started_at: int | None
    finished_at: int | None
    deadline_at: int | None
    runs: int
    last_checkpoint_id: str | None
    error: dict[str, Any] | None
    report: dict[str, Any] | None
    metadata: dict[str, str]
    spec: dict[str, Any]
    resolved: dict[str, Any] | None

    @classmethod
    def of(cls, job: Job, queue_position: int | None = None) -> JobOut:
        """Build the answer from a row; rows are ours, so nothing is validated again."""
        return cls.model_construct(
            id=job.id,
            kind=job.kind,
            state=job.state,
            phase=job.phase,
            progress=job.progress,
            queue_position=queue_position,
            model=_base(job.spec.get("model") or job.spec.get("student") or ""),
            model_id=job.model_id,
            result_files=(job.report or {}).get("result_files", []),
            created_at=int(job.created_at),
            started_at=_seconds(job.started_at),
            finished_at=_seconds(job.finished_at),
            deadline_at=_seconds(job.deadline_at),
            runs=job.lease_epoch,
            last_checkpoint_id=job.last_checkpoint_id,
            error=job.error,
            report=job.report,
            metadata=job.spec.get("metadata", {}),
            spec=job.spec,
            resolved=job.resolved,
        )


class EventOut(Schema):
    """One entry of a job's history; `seq` counts from 1 without gaps."""

    object: Literal["job.event"] = "job.event"
    id: str
    seq: int
    created_at: int
    type: str
    level: str
    message: str
    data: dict[str, Any] | None

    @classmethod
    def of(cls, event: JobEvent) -> EventOut:
        """Build the answer from a row."""
        return cls.model_construct(
            id=f"{event.job_id}:{event.seq}",
            seq=event.seq,
            created_at=int(event.created_at),
            type=event.type,
            level=event.level,
            message=event.message,
            data=event.data,
        )


class CheckpointOut(Schema):
    """A state that the job can be resumed from."""

    object: Literal["job.checkpoint"] = "job.checkpoint"
    id: str
    job_id: str
    step: int
    run_epoch: int
    is_best: bool
    bytes: int
    metrics: dict[str, float]
    created_at: int

    @classmethod
    def of(cls, row: Checkpoint) -> CheckpointOut:
        """Build the answer from a row."""
        return cls.model_construct(
            id=row.id,
            job_id=row.job_id,
            step=row.step,
            run_epoch=row.epoch,
            is_best=row.is_best,
            bytes=row.bytes,
            metrics=row.metrics,
            created_at=int(row.created_at),
        )


class RunOut(Schema):
    """One attempt by one worker. `outcome` is null while it runs."""

    object: Literal["job.run"] = "job.run"
    id: str
    job_id: str
    epoch: int
    worker: str
    created_at: int
    finished_at: int | None
    outcome: str | None
    resumed_from_step: int | None
    environment: dict[str, Any] | None
    error: dict[str, Any] | None

    @classmethod
    def of(cls, row: Run) -> RunOut:
        """Build the answer from a row."""
        return cls.model_construct(
            id=row.id,
            job_id=row.job_id,
            epoch=row.epoch,
            worker=row.worker,
            created_at=int(row.created_at),
            finished_at=_seconds(row.finished_at),
            outcome=row.outcome,
            resumed_from_step=row.resumed_from_step,
            environment=row.environment,
            error=row.error,
        )


class SeriesOut(Schema):
    """One metric over the steps of the job."""

    object: Literal["job.metric"] = "job.metric"
    name: str
    points: list[tuple[int, float]]


class CheckOut(Schema):
    """The dry run of a job: nothing was queued."""

    object: Literal["job.check"] = "job.check"
    spec: dict[str, Any]
    data: dict[str, Any]
    estimate: dict[str, Any]
    warnings: list[str]


class ListOut(Schema):
    """One page of a list; continue with `after=<last_id>` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


def _base(model: Any) -> str:
    """Return a model's id, or the kind of one that is made for the job."""
    return model if isinstance(model, str) else str(model.get("model") or model.get("kind"))


def _seconds(value: float | None) -> int | None:
    return None if value is None else int(value)
