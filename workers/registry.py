"""Who this worker is: one id for the Celery main process and its pool child, and a row."""

from __future__ import annotations

import contextlib
import os
import socket

from app.errors import Unavailable
from app.jobs import workers
from app.kit.db import Database


def host_name() -> str:
    """Return this machine's name."""
    return socket.gethostname()


def register(database: Database, device: str) -> str:
    """Register the worker that the calling pool child is, and return its id."""
    pid = os.getppid()  # the Celery main process, the one that systemd, Docker and people signal
    worker_id = f"{host_name()}:{pid}:{os.getpid()}"
    with database.transaction() as session:
        workers.register(session, worker_id, host=host_name(), pid=pid, device=device)
    return worker_id


def drain_host_process(database: Database) -> None:
    """Called in the Celery main process when it is told to stop: its child shall claim nothing more."""
    with contextlib.suppress(Unavailable), database.transaction() as session:
        workers.drain(session, host=host_name(), pid=os.getpid())
