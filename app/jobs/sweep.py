"""Recovery: leases that ran out, hints that were lost, deadlines that passed.

Any replica may sweep; one does at a time, and two at once would do no harm, because every move is
guarded like any other.
"""

from __future__ import annotations

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.errors import AttuneError
from app.jobs.lifecycle import FREED, add_hint, move, prune_outbox
from app.jobs.state import State
from app.jobs.tables import IS_HELD, IS_QUEUED, IdempotencyKey, Job, Leader, Outbox, Run
from app.kit.db import Database, db_now, upsert
from app.settings import Settings
from app.telemetry import JOBS_IN_STATE, LEASES_EXPIRED, OUTBOX_PENDING, get_logger

log = get_logger(__name__)
BATCH = 100
OUTBOX_KEPT_S = 3600.0
MAX_REDISPATCHED = 10


def lead(session: Session, role: str, holder: str, ttl_s: float) -> bool:
    """Take or keep a role; False while another replica holds it."""
    statement = upsert(session)(Leader).values(
        role=role, holder=holder, expires_at=db_now() + ttl_s
    )
    taken = session.execute(
        statement.on_conflict_do_update(
            index_elements=["role"],
            set_={"holder": holder, "expires_at": db_now() + ttl_s},
            where=or_(Leader.holder == holder, Leader.expires_at < db_now()),
        ).returning(Leader.role)
    ).first()
    return taken is not None


def sweep(database: Database, settings: Settings, holder: str) -> bool:
    """Do one round if this replica leads, and say whether it does."""
    with database.transaction() as session:
        if not lead(session, "sweep", holder, settings.sweep_interval_s * 3):
            return False
    for job_id in _expired(database):
        with database.transaction() as session:
            take_back(session, job_id, settings)
    with database.transaction() as session:
        fail_late(session)
        redispatch(session, settings)
        prune_outbox(session, OUTBOX_KEPT_S)
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at < db_now()))
    refresh_gauges(database)
    return True


def _expired(database: Database) -> list[str]:
    query = (
        select(Job.id)
        .where(
            IS_HELD,
            Job.lease_expires_at < db_now(),
        )
        .limit(BATCH)
    )
    with database.read() as session:
        return list(session.scalars(query))


def take_back(session: Session, job_id: str, settings: Settings) -> None:
    """T8, T12: end the run of a worker that went silent; requeue, fail or cancel its job."""
    job = session.scalar(
        select(Job).where(Job.id == job_id, Job.lease_expires_at < db_now()).with_for_update()
    )
    if job is None:
        return
    owner, epoch = job.lease_owner, job.lease_epoch
    crashes = job.crashes_since_progress + 1
    if job.state == State.CANCELLING:
        move(session, job_id, State.CANCELLING, State.CANCELLED, "Cancelled; its worker went silent",
             epoch=epoch, finished_at=db_now(), **FREED)  # fmt: skip
    elif crashes >= settings.crash_budget or epoch >= settings.max_runs:
        message = (
            f"the worker went silent {crashes} times without a new checkpoint in between "
            f"({epoch} runs in all); the job is given up"
        )
        error = AttuneError(
            message, code="worker_lost", details={"worker": owner, "runs": epoch}
        ).to_dict()
        move(session, job_id, State.RUNNING, State.FAILED, message, epoch=epoch,
             level="error", data={"error": error}, error=error, finished_at=db_now(),
             crashes_since_progress=crashes, **FREED)  # fmt: skip
    else:
        moved = move(session, job_id, State.RUNNING, State.QUEUED,
                     f"Worker {owner} went silent; the job goes back to the queue", epoch=epoch,
                     level="warning", data={"outcome": "worker_lost"}, run_after=db_now(),
                     crashes_since_progress=crashes, **FREED)  # fmt: skip
        if moved:
            add_hint(session, job_id)
    session.execute(
        update(Run)
        .where(Run.job_id == job_id, Run.epoch == epoch, Run.finished_at.is_(None))
        .values(finished_at=db_now(), outcome="worker_lost")
    )
    LEASES_EXPIRED.inc()
    log.warning("jobs.lease_expired", job_id=job_id, lease_epoch=epoch, worker=owner)


def fail_late(session: Session) -> None:
    """T9 for jobs that nobody runs: a deadline that passes in the queue is said, not waited for."""
    late = session.scalars(
        select(Job.id).where(IS_QUEUED, Job.deadline_at < db_now()).limit(BATCH)
    ).all()
    for job_id in late:
        message = "the job was not done within runtime.max_runtime_s"
        error = AttuneError(
            message, code="deadline_exceeded", param="runtime.max_runtime_s"
        ).to_dict()
        move(session, job_id, State.QUEUED, State.FAILED, message, level="error",
             data={"error": error}, error=error, finished_at=db_now())  # fmt: skip


def redispatch(session: Session, settings: Settings) -> None:
    """Hint again at the oldest waiting jobs whose hint may have been lost.

    A few are enough: a worker that wakes up goes on claiming until the queue is empty.
    """
    waiting = session.scalars(
        select(Job.id)
        .where(
            IS_QUEUED,
            Job.run_after < db_now() - settings.redispatch_after_s,
            or_(
                Job.dispatched_at.is_(None),
                Job.dispatched_at < db_now() - settings.redispatch_after_s,
            ),
        )
        .order_by(Job.created_at)
        .limit(MAX_REDISPATCHED)
    ).all()
    pending = set(session.scalars(select(Outbox.job_id).where(Outbox.published_at.is_(None))))
    for job_id in waiting:
        if job_id not in pending:
            add_hint(session, job_id)


def refresh_gauges(database: Database) -> None:
    """Set the gauges that `/metrics` shows."""
    with database.read() as session:
        rows = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
        counts = {state: count for state, count in rows}  # noqa: C416 - rows are not tuples
        for state in State:
            JOBS_IN_STATE.labels(state=state).set(counts.get(state, 0))
        pending = select(func.count()).where(Outbox.published_at.is_(None))
        OUTBOX_PENDING.set(session.scalar(pending) or 0)
