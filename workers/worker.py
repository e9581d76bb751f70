"""The pool child: keeps one trainer warm, and runs one job after the other until the queue is empty."""

from __future__ import annotations

import threading

from app import tables
from app.errors import AttuneError
from app.jobs import workers
from app.jobs.lifecycle import Claim, claim_next
from app.kit.db import Database
from app.settings import Settings
from app.store.layout import Layout
from app.telemetry import get_logger
from workers import registry
from workers.run import JobRun
from workers.trainer_process import TrainerProcess

log = get_logger(__name__)


class Worker:
    """One device's worth of work."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Naming the metadata imports every table; without it, foreign keys have nothing to point at.
        self._metadata = tables.metadata
        self._database = Database(settings.resolved_database_url)
        self._layout = Layout(settings.store_dir)
        self._standby: TrainerProcess | None = None
        self._stopped = threading.Event()
        self._id = ""

    def start(self) -> None:
        """Register, and warm up the first trainer."""
        self._id = registry.register(self._database, device="auto")
        self._warm_up()
        threading.Thread(target=self._stay_seen, name="worker-seen", daemon=True).start()
        log.info("worker.started", worker=self._id)

    def stop(self) -> None:
        """Let the standby trainer go."""
        self._stopped.set()
        if self._standby is not None:
            self._standby.close()

    def work(self, hinted: str) -> None:
        """Claim and run jobs until none is claimable or the worker drains."""
        log.debug("worker.hinted", job_id=hinted)
        while not self._stopped.is_set():
            try:
                claim = self._claim()
                if claim is None:
                    return
                self._run(claim)
            except AttuneError as error:
                # The lease runs out and the sweep hands the job on; the next hint wakes us again.
                log.warning("worker.gave_up", code=error.error_code, error=error.message)
                return

    def _claim(self) -> Claim | None:
        with self._database.transaction() as session:
            if workers.is_draining(session, self._id):
                return None
            return claim_next(session, self._id, self._settings.lease_ttl_s)

    def _run(self, claim: Claim) -> None:
        trainer = self._take_trainer()
        log.info("jobs.claimed", job_id=claim.job_id, lease_epoch=claim.epoch)
        try:
            JobRun(self._settings, self._database, self._layout, claim, self._id, trainer).execute()
        finally:
            exit_code = trainer.close()
            log.info("jobs.run_ended", job_id=claim.job_id, exit_code=exit_code)
            self._warm_up()

    def _take_trainer(self) -> TrainerProcess:
        trainer, self._standby = self._standby, None
        if trainer is None or trainer.exit_code is not None:
            trainer = TrainerProcess()
        return trainer

    def _warm_up(self) -> None:
        # In the calling thread: a child's parent-death signal follows the thread that started it.
        if self._settings.standby and self._standby is None and not self._stopped.is_set():
            self._standby = TrainerProcess()

    def _stay_seen(self) -> None:
        while not self._stopped.wait(self._settings.heartbeat_s):
            try:
                with self._database.transaction() as session:
                    workers.seen(session, self._id)
            except AttuneError as error:
                log.warning("worker.database_unavailable", error=error.message)
