"""The outbox relay: from rows that committed with a job to hints at the broker.

At least once: a hint is marked delivered after it was sent, so a crash in between sends it twice, which
a worker does not mind. While the broker is down, rows wait and jobs are accepted all the same.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.errors import Unavailable
from app.jobs.tables import Job, Outbox
from app.kit.db import Database, db_now
from app.queue.port import JobQueue
from app.telemetry import DISPATCHES, get_logger

log = get_logger(__name__)
BATCH = 100
RESEND_AFTER_S = 15.0  # a relay that died between claiming and sending is overtaken after this
MAX_BACKOFF_S = 30.0


def relay(database: Database, queue: JobQueue) -> int:
    """Send the hints that are due; return how many were delivered."""
    with database.transaction() as session:
        due = _claim_due(session)
    delivered: list[tuple[int, str]] = []
    for row_id, job_id, attempts in due:
        try:
            queue.send(job_id)
        except Unavailable as error:
            DISPATCHES.labels(outcome="failed").inc()
            log.warning("outbox.broker_unavailable", error=error.message, attempts=attempts)
            with database.transaction() as session:
                _back_off(
                    session, [row[0] for row in due[len(delivered) :]], error.message, attempts
                )
            break
        DISPATCHES.labels(outcome="sent").inc()
        delivered.append((row_id, job_id))
    if delivered:
        with database.transaction() as session:
            session.execute(
                update(Outbox)
                .where(Outbox.id.in_([row_id for row_id, _ in delivered]))
                .values(published_at=db_now())
            )
            session.execute(
                update(Job)
                .where(Job.id.in_([job_id for _, job_id in delivered]))
                .values(dispatched_at=db_now())
            )
    return len(delivered)


def has_due(database: Database) -> bool:
    """Say whether any hint waits to be sent; a cheap read, so that idling writes nothing."""
    query = select(Outbox.id).where(Outbox.published_at.is_(None), Outbox.available_at <= db_now())
    with database.read() as session:
        return session.scalar(query.limit(1)) is not None


def _claim_due(session: Session) -> list[tuple[int, str, int]]:
    due = (
        select(Outbox.id)
        .where(Outbox.published_at.is_(None), Outbox.available_at <= db_now())
        .order_by(Outbox.id)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    ids = list(session.scalars(due))
    rows = session.execute(
        update(Outbox)
        .where(Outbox.id.in_(ids))
        .values(available_at=db_now() + RESEND_AFTER_S, attempts=Outbox.attempts + 1)
        .returning(Outbox.id, Outbox.job_id, Outbox.attempts)
    ).all()
    return sorted((row.id, row.job_id, row.attempts) for row in rows)


def _back_off(session: Session, ids: list[int], reason: str, attempts: int) -> None:
    delay_s = min(MAX_BACKOFF_S, 0.5 * 2 ** min(attempts, 10))
    session.execute(
        update(Outbox)
        .where(Outbox.id.in_(ids))
        .values(available_at=db_now() + delay_s, last_error=reason)
    )
