"""The thread that keeps a job's lease, and stops the trainer the moment it must not go on.

Fencing is by this machine's monotonic clock, read before each renewal was sent: whatever the database or
the network does, the trainer is dead before anybody else may claim the job.
"""

from __future__ import annotations

import threading
from enum import StrEnum

from app.errors import LeaseLost, Unavailable
from app.jobs import workers
from app.jobs.lifecycle import Claim, renew
from app.jobs.recording import is_cancel_requested
from app.kit.clock import monotonic
from app.kit.db import Database
from app.settings import Settings
from app.telemetry import get_logger
from workers.protocol import Drain, Lease
from workers.trainer_process import TrainerProcess

log = get_logger(__name__)
TICK_S = 1.0


class Verdict(StrEnum):
    """Why the run has to stop."""

    LOST = "lease_lost"
    CANCELLED = "cancelled"
    LATE = "deadline_exceeded"
    HUNG = "hung"
    DRAINING = "drained"


class LeaseKeeper:
    """Renews, watches for cancel, deadline, drain and hang, and kills the trainer when it has to."""

    def __init__(
        self, database: Database, settings: Settings, claim: Claim, worker_id: str,
        trainer: TrainerProcess,
    ) -> None:  # fmt: skip
        self._database = database
        self._settings = settings
        self._claim = claim
        self._worker_id = worker_id
        self._trainer = trainer
        self._stopped = threading.Event()
        self._renewed_at = monotonic()
        self._progress_at = monotonic()
        self._draining_since: float | None = None
        self.verdict: Verdict | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin; the lease is the one that the claim has just taken."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the lease is left to whoever ends the run."""
        self._stopped.set()
        self._thread.join(timeout=10.0)

    def note_progress(self) -> None:
        """Tell the watchdog that the trainer has said something."""
        self._progress_at = monotonic()

    def _run(self) -> None:
        next_renewal = 0.0
        while not self._stopped.is_set():
            now = monotonic()
            try:
                if now >= next_renewal:
                    self._renew(now)
                    next_renewal = now + self._settings.heartbeat_s
                self._look()
            except Unavailable:
                log.warning("lease.database_unavailable", job_id=self._claim.job_id)
                next_renewal = 0.0
            except LeaseLost:
                self._judge(Verdict.LOST)
            except Exception:
                log.exception("lease.failed", job_id=self._claim.job_id)
                next_renewal = 0.0
            if monotonic() - self._renewed_at > self._settings.self_fence_s:
                self._judge(Verdict.LOST)
            if self.verdict not in {None, Verdict.DRAINING}:
                return
            self._stopped.wait(TICK_S)

    def _renew(self, before: float) -> None:
        with self._database.transaction() as session:
            beat = renew(session, self._claim, self._settings.lease_ttl_s)
            workers.seen(session, self._worker_id)
        self._renewed_at = before
        self._trainer.send(Lease(ttl_s=self._settings.lease_ttl_s))
        if beat.cancel_requested:
            self._judge(Verdict.CANCELLED)
        elif beat.deadline_passed:
            self._judge(Verdict.LATE)

    def _look(self) -> None:
        """Between renewals: a cheap read, so that cancel and drain act within a second or two."""
        now = monotonic()
        if now - self._progress_at > self._settings.progress_timeout_s:
            self._judge(Verdict.HUNG)
        with self._database.read() as session:
            cancel = is_cancel_requested(session, self._claim)
            draining = workers.is_draining(session, self._worker_id)
        if cancel:
            self._judge(Verdict.CANCELLED)
        elif draining and self._draining_since is None:
            self._draining_since = now
            self.verdict = Verdict.DRAINING
            self._trainer.send(Drain())
        elif (
            self._draining_since is not None
            and now - self._draining_since > self._settings.drain_timeout_s
        ):
            self._trainer.kill()

    def _judge(self, verdict: Verdict) -> None:
        self.verdict = verdict
        log.info("lease.stopping_trainer", job_id=self._claim.job_id, verdict=verdict)
        self._trainer.kill()
