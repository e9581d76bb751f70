"""The rows of the workers that have been seen. For people, and for telling a worker to drain."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.jobs.tables import Worker
from app.kit.db import database_now, db_now, upsert


def register(session: Session, worker_id: str, *, host: str, pid: int, device: str) -> None:
    """Insert or renew a worker's row; `pid` is the process that gets the signals."""
    now = database_now(session)
    facts = {"host": host, "pid": pid, "device": device, "started_at": now, "last_seen_at": now,
             "draining": False}  # fmt: skip
    statement = upsert(session)(Worker).values(id=worker_id, **facts)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=facts))


def seen(session: Session, worker_id: str) -> None:
    """Note that a worker is alive."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(last_seen_at=db_now()))


def drain(session: Session, *, host: str, pid: int) -> None:
    """Tell the worker of this process to finish what it does and claim nothing more."""
    session.execute(
        update(Worker).where(Worker.host == host, Worker.pid == pid).values(draining=True)
    )


def is_draining(session: Session, worker_id: str) -> bool:
    """Say whether the worker was told to drain."""
    return bool(session.scalar(select(Worker.draining).where(Worker.id == worker_id)))


def alive(
    session: Session, within_s: float, *, host: str | None = None, pid: int | None = None
) -> int:
    """Return how many workers (of one host, of one process) were seen lately and are not draining."""
    query = select(Worker.id).where(
        Worker.last_seen_at > db_now() - within_s, Worker.draining.is_(False)
    )
    if host is not None:
        query = query.where(Worker.host == host)
    if pid is not None:
        query = query.where(Worker.pid == pid)
    return len(session.scalars(query).all())
