"""The two threads that every API replica runs: the outbox relay and the sweep."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

from app.errors import AttuneError
from app.jobs.garbage import collect_garbage
from app.jobs.relay import BATCH, has_due, relay
from app.jobs.sweep import sweep
from app.kit.clock import monotonic
from app.kit.db import Database
from app.kit.ids import short_id
from app.queue.port import JobQueue
from app.settings import Settings
from app.store.layout import Layout
from app.telemetry import get_logger

log = get_logger(__name__)
COLLECT_EVERY_S = 3600.0
# Between rounds of the relay, so that the jobs of a burst share its two transactions.
GATHER_S = 0.2


class Background:
    """Relay and sweep, each in its own daemon thread until `stop`."""

    def __init__(self, settings: Settings, database: Database, queue: JobQueue) -> None:
        self._settings = settings
        self._database = database
        self._queue = queue
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._next_collection = monotonic() + COLLECT_EVERY_S
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{short_id()}"
        self._threads = [
            threading.Thread(target=self._run, args=(job, wait), name=name, daemon=True)
            for name, job, wait in (
                ("attune-relay", self._relay, self._wait_for_hint),
                ("attune-sweep", self._sweep, self._wait_for_sweep),
            )
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop both and wait for the round they are in."""
        self._stopped.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=10.0)

    def wake(self) -> None:
        """Let the relay look at the outbox now; called after the commit of a submit."""
        self._wake.set()

    def _run(self, job: Callable[[], None], wait: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                job()
            except AttuneError as error:
                log.warning("background.retrying", thread=threading.current_thread().name,
                            code=error.error_code, error=error.message)  # fmt: skip
            except Exception:
                log.exception("background.failed", thread=threading.current_thread().name)
            wait()

    def _relay(self) -> None:
        # Only a full batch is followed at once: what came in meanwhile waits for the next round.
        while has_due(self._database) and relay(self._database, self._queue) == BATCH:
            pass

    def _sweep(self) -> None:
        leads = sweep(self._database, self._settings, self._holder)
        if leads and monotonic() >= self._next_collection:
            self._next_collection = monotonic() + COLLECT_EVERY_S
            collect_garbage(self._database, Layout(self._settings.store_dir))

    def _wait_for_hint(self) -> None:
        self._stopped.wait(GATHER_S)
        self._wake.wait(self._settings.relay_interval_s)
        self._wake.clear()

    def _wait_for_sweep(self) -> None:
        self._stopped.wait(self._settings.sweep_interval_s)
