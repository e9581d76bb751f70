"""What a run writes down besides its state: metrics, checkpoints, the environment it ran in.

The first write of a transaction is always `fenced`, so that a stale run changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.jobs.lifecycle import Claim, fenced
from app.jobs.tables import Checkpoint, Job, JobMetric, Run
from app.kit.db import database_now, upsert


def is_cancel_requested(session: Session, claim: Claim) -> bool:
    """Say whether somebody asked to cancel the claimed job; a plain read."""
    query = select(Job.cancel_requested_at).where(Job.id == claim.job_id)
    return session.scalar(query) is not None


def add_metrics(
    session: Session, claim: Claim, points: Iterable[tuple[int, dict[str, float]]]
) -> None:
    """Upsert points of the metric series; call `fenced` first in the same transaction."""
    now = database_now(session)
    rows = [
        {
            "job_id": claim.job_id,
            "name": name,
            "step": step,
            "tenant_id": claim.tenant_id,
            "value": value,
            "created_at": now,
        }
        for step, values in points
        for name, value in values.items()
    ]
    if not rows:
        return
    statement = upsert(session)(JobMetric)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "name", "step"],
            set_={"value": statement.excluded.value, "created_at": statement.excluded.created_at},
        ),
        rows,
    )


def add_checkpoint(session: Session, claim: Claim, checkpoint: Checkpoint) -> None:
    """T3: record a durable checkpoint; progress was made, so the crash budget starts afresh."""
    fenced(session, claim, last_checkpoint_id=checkpoint.id, crashes_since_progress=0)
    session.add(checkpoint)
    session.flush()


def quarantine(session: Session, claim: Claim, checkpoint_id: str) -> None:
    """Take a damaged checkpoint out of use; call `fenced` first in the same transaction."""
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.id == checkpoint_id, Checkpoint.job_id == claim.job_id)
        .values(state="quarantined")
    )


def drop_checkpoints(session: Session, claim: Claim, keep: int) -> list[str]:
    """Mark all but the newest `keep` and the best checkpoint deleted; return their folders.

    The newest checkpoint that was the best when it was made is the best of all.
    """
    query = select(Checkpoint).where(
        Checkpoint.job_id == claim.job_id, Checkpoint.state == "committed"
    )
    rows = session.scalars(query.order_by(Checkpoint.step.desc(), Checkpoint.epoch.desc())).all()
    best = next((row.id for row in rows if row.is_best), None)
    dropped = [row for row in rows[keep:] if row.id != best]
    for row in dropped:
        row.state = "deleted"
    session.flush()
    return [row.folder for row in dropped]


def crashes(session: Session, claim: Claim) -> int:
    """Return how often the job has crashed since its last checkpoint."""
    query = select(Job.crashes_since_progress).where(Job.id == claim.job_id)
    return int(session.execute(query).scalar_one())


def describe_run(
    session: Session, claim: Claim, *, environment: dict[str, Any], resumed_from_step: int | None
) -> None:
    """Record on what the run runs, and where it started."""
    session.execute(
        update(Run)
        .where(Run.id == claim.run_id)
        .values(environment=environment, resumed_from_step=resumed_from_step)
    )
