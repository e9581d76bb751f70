"""Every write that moves a job through its life, each guarded so that stale or doubled callers do nothing.

The guard is always the same: an UPDATE whose WHERE names the state and, for a run, the lease epoch. Zero
rows means that somebody else owns the job now. Functions take the caller's session and never commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from app.errors import LeaseLost
from app.jobs.state import HELD, State, is_legal
from app.jobs.tables import IS_QUEUED, IdempotencyKey, Job, JobEvent, Outbox, Run
from app.kit.db import database_now, db_now, upsert
from app.kit.ids import new_id

_INSERT_EVENT = insert(JobEvent.__table__)  # pyright: ignore[reportArgumentType] - it is a Table
_INSERT_HINT = insert(Outbox.__table__)  # pyright: ignore[reportArgumentType]
# What a job loses when nobody holds it any more.
FREED: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None, "phase": None}
HELD_STATES = tuple(sorted(HELD))


@dataclass(frozen=True)
class Claim:
    """A job that this worker owns under `epoch` until its lease runs out."""

    job_id: str
    tenant_id: str
    epoch: int
    run_id: str


@dataclass(frozen=True)
class Beat:
    """What a renewed lease tells its holder."""

    cancel_requested: bool
    deadline_passed: bool


def add_event(
    session: Session,
    job_id: str,
    type_: str,
    message: str,
    *,
    level: str = "info",
    data: dict[str, Any] | None = None,
) -> int:
    """Append to the job's history and return the event's seq. The row lock keeps seq gapless."""
    row = session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(last_seq=Job.last_seq + 1)
        .returning(Job.last_seq, Job.tenant_id, Job.lease_epoch)
    ).one()
    session.add(
        JobEvent(
            job_id=job_id,
            seq=row.last_seq,
            tenant_id=row.tenant_id,
            created_at=database_now(session),
            type=type_,
            level=level,
            message=message,
            lease_epoch=row.lease_epoch,
            data=data,
        )
    )
    session.flush()
    return int(row.last_seq)


def move(  # noqa: PLR0913 - one transition has this many parts, and callers name them
    session: Session,
    job_id: str,
    source: State,
    target: State,
    message: str,
    *,
    epoch: int | None = None,
    level: str = "info",
    data: dict[str, Any] | None = None,
    **values: Any,
) -> bool:
    """Do one transition of the table, with its event; False when the job is not in `source` (any more)."""
    if not is_legal(source, target):
        detail = f"{source} -> {target} is not in the transition table"
        raise AssertionError(detail)
    guard = [Job.id == job_id, Job.state == source]
    if epoch is not None:
        guard.append(Job.lease_epoch == epoch)
    moved = session.execute(
        update(Job).where(*guard).values(state=target, **values).returning(Job.id)
    ).first()
    if moved is None:
        return False
    add_event(
        session, job_id, "state", message, level=level, data={"state": target, **(data or {})}
    )
    return True


def accept(session: Session, job: Job) -> None:
    """T0: insert the job with its first event and the hint, all in the caller's transaction."""
    job.last_seq = 1
    session.add(job)
    session.flush()
    # Plain inserts: the busiest write of the API has no use for the rows as objects.
    session.execute(
        _INSERT_EVENT,
        {
            "job_id": job.id,
            "seq": 1,
            "tenant_id": job.tenant_id,
            "created_at": job.created_at,
            "type": "state",
            "level": "info",
            "message": "Job accepted",
            "lease_epoch": 0,
            "data": {"state": State.QUEUED},
        },
    )
    session.execute(_INSERT_HINT, _hint(job.id, job.created_at, job.run_after))


def reserve_key(session: Session, row: IdempotencyKey) -> bool:
    """Insert an idempotency key; False when it exists, after waiting for a writer in flight."""
    statement = upsert(session)(IdempotencyKey).values(
        tenant_id=row.tenant_id,
        key=row.key,
        request_sha256=row.request_sha256,
        resource_id=row.resource_id,
        expires_at=row.expires_at,
    )
    taken = statement.on_conflict_do_nothing().returning(IdempotencyKey.key)
    return session.execute(taken).first() is not None


def request_cancel(session: Session, job_id: str) -> State:
    """T10, T11: cancel a queued job at once, ask a running one to stop; return the state it is in now.

    Asking again changes nothing. A terminal job stays as it is.
    """
    if move(session, job_id, State.QUEUED, State.CANCELLED, "Cancelled before it ran",
            finished_at=db_now(), cancel_requested_at=db_now()):  # fmt: skip
        return State.CANCELLED
    move(session, job_id, State.RUNNING, State.CANCELLING, "Cancel requested",
         cancel_requested_at=db_now())  # fmt: skip
    return State(session.execute(select(Job.state).where(Job.id == job_id)).scalar_one())


def claim_next(session: Session, worker: str, ttl_s: float) -> Claim | None:
    """T1: take the oldest claimable job, with a new epoch and a fresh lease."""
    oldest = (
        select(Job.id)
        .where(
            IS_QUEUED,
            Job.run_after <= db_now(),
            Job.cancel_requested_at.is_(None),
        )
        .order_by(Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = session.scalar(oldest)
    if job_id is None:
        return None
    moved = move(
        session,
        job_id,
        State.QUEUED,
        State.RUNNING,
        f"Claimed by {worker}",
        data={"worker": worker},
        lease_owner=worker,
        lease_epoch=Job.lease_epoch + 1,
        lease_expires_at=db_now() + ttl_s,
        started_at=func.coalesce(Job.started_at, db_now()),
        phase=None,
    )
    if not moved:
        return None
    job = session.execute(select(Job.tenant_id, Job.lease_epoch).where(Job.id == job_id)).one()
    run = Run(
        id=new_id("run"),
        tenant_id=job.tenant_id,
        job_id=job_id,
        epoch=job.lease_epoch,
        worker=worker,
        created_at=database_now(session),
    )
    session.add(run)
    session.flush()
    return Claim(job_id=job_id, tenant_id=job.tenant_id, epoch=job.lease_epoch, run_id=run.id)


def renew(session: Session, claim: Claim, ttl_s: float) -> Beat:
    """T2: extend the lease.

    Raises:
        LeaseLost: the epoch has moved on, or the job is no longer held.
    """
    row = session.execute(
        update(Job)
        .where(*_held_by(claim))
        .values(lease_expires_at=db_now() + ttl_s)
        .returning(Job.cancel_requested_at, (Job.deadline_at < db_now()).label("late"))
    ).first()
    if row is None:
        raise LeaseLost
    return Beat(
        cancel_requested=row.cancel_requested_at is not None, deadline_passed=bool(row.late)
    )


def fenced(session: Session, claim: Claim, **values: Any) -> None:
    """Write columns of the job as its holder; every other write of a run follows one of these.

    Raises:
        LeaseLost: as `renew`.
    """
    row = session.execute(
        update(Job)
        .where(*_held_by(claim))
        .values(**(values or {"lease_epoch": claim.epoch}))
        .returning(Job.id)
    ).first()
    if row is None:
        raise LeaseLost


def end_run(
    session: Session, claim: Claim, outcome: str, error: dict[str, Any] | None = None
) -> None:
    """Close the run's row."""
    session.execute(
        update(Run)
        .where(Run.id == claim.run_id, Run.finished_at.is_(None))
        .values(finished_at=db_now(), outcome=outcome, error=error)
    )


def succeed(
    session: Session, claim: Claim, *, report: dict[str, Any], message: str,
    model_id: str | None = None, result_files: Sequence[str] = (),
) -> None:  # fmt: skip
    """T4; what came of the job is a model, files, or what its report says.

    Raises:
        LeaseLost: the job is not this run's, or a cancel was acknowledged meanwhile.
    """
    moved = move(
        session,
        claim.job_id,
        State.RUNNING,
        State.SUCCEEDED,
        message,
        epoch=claim.epoch,
        data={"result_files": list(result_files)} if model_id is None else {"model_id": model_id},
        model_id=model_id,
        report=report | ({"result_files": list(result_files)} if result_files else {}),
        finished_at=db_now(),
        **FREED,
    )
    if not moved:
        raise LeaseLost
    end_run(session, claim, "succeeded")


def fail(session: Session, claim: Claim, error: dict[str, Any], *, outcome: str = "failed") -> None:
    """T6, T9: the job cannot succeed.

    Raises:
        LeaseLost: the job is not this run's any more.
    """
    moved = move(
        session,
        claim.job_id,
        State.RUNNING,
        State.FAILED,
        str(error["message"]),
        epoch=claim.epoch,
        level="error",
        data={"error": error},
        error=error,
        finished_at=db_now(),
        **FREED,
    )
    if not moved:
        raise LeaseLost
    end_run(session, claim, outcome, error)


def requeue(
    session: Session, claim: Claim, message: str, *, outcome: str, delay_s: float, crashed: bool
) -> None:
    """T5, T7: give the job back, to be claimed again after `delay_s`.

    Raises:
        LeaseLost: the job is not this run's any more.
    """
    moved = move(
        session,
        claim.job_id,
        State.RUNNING,
        State.QUEUED,
        message,
        epoch=claim.epoch,
        level="warning" if crashed else "info",
        data={"outcome": outcome},
        run_after=db_now() + delay_s,
        crashes_since_progress=Job.crashes_since_progress + int(crashed),
        **FREED,
    )
    if not moved:
        raise LeaseLost
    end_run(session, claim, outcome)
    add_hint(session, claim.job_id, delay_s=delay_s)


def cancelled(session: Session, claim: Claim) -> None:
    """T12: the trainer is dead, as asked.

    Raises:
        LeaseLost: the job is not this run's any more.
    """
    moved = move(
        session,
        claim.job_id,
        State.CANCELLING,
        State.CANCELLED,
        "Cancelled",
        epoch=claim.epoch,
        finished_at=db_now(),
        **FREED,
    )
    if not moved:
        raise LeaseLost
    end_run(session, claim, "cancelled")


def add_hint(session: Session, job_id: str, *, delay_s: float = 0.0) -> None:
    """Write the outbox row that makes the relay tell the broker."""
    now = database_now(session)
    session.execute(_INSERT_HINT, _hint(job_id, now, now + delay_s))


def _hint(job_id: str, created_at: float, available_at: float) -> dict[str, Any]:
    return {
        "kind": "dispatch",
        "job_id": job_id,
        "created_at": created_at,
        "available_at": available_at,
        "attempts": 0,
    }


def prune_outbox(session: Session, older_than_s: float) -> None:
    """Delete delivered hints that nobody will look at again."""
    session.execute(delete(Outbox).where(Outbox.published_at < db_now() - older_than_s))


def _held_by(claim: Claim) -> tuple[Any, ...]:
    return (
        Job.id == claim.job_id,
        Job.lease_epoch == claim.epoch,
        Job.state.in_(HELD_STATES),
    )
