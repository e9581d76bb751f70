"""The worker's face to Celery: one message handler, and the signals that start and drain it.

In the prefork pool's child a `Worker` supervises one trainer at a time. The main process only receives
hints; it tells the child to drain through the database, because Celery's own signals do not reach it.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from app.kit.db import Database
from app.queue.celery import make_celery
from app.queue.port import RUN_JOB
from app.settings import Settings
from app.telemetry import configure_logging
from workers import registry
from workers.worker import Worker

settings = Settings()
celery = make_celery(settings)
_worker: Worker | None = None


@celery.task(name=RUN_JOB)
def run_job(job_id: str) -> None:
    """Work until the queue is empty. The id only says that there is something to do."""
    if _worker is not None:
        _worker.work(hinted=job_id)


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    configure_logging(settings)


@signals.worker_process_init.connect
def _start(**_: Any) -> None:
    global _worker  # noqa: PLW0603 - the pool child is the worker; Celery gives it no object to hang on
    configure_logging(settings)
    _worker = Worker(settings)
    _worker.start()


@signals.worker_process_shutdown.connect
def _stop(**_: Any) -> None:
    if _worker is not None:
        _worker.stop()


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    database = Database(settings.resolved_database_url)
    registry.drain_host_process(database)
    database.dispose()
