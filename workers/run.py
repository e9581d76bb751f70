"""One run of one job: hand the trainer its assignment, write down what it says, end the run rightly.

The supervisor is the only writer of the run's rows, and every write carries the lease epoch. `LeaseLost`
from any of them means that the job belongs to somebody else: the trainer dies and nothing more is said.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.errors import AttuneError, LeaseLost, TrainingFailed, Unavailable
from app.jobs import lifecycle
from app.jobs.lifecycle import Claim
from app.kit.db import Database
from app.settings import Settings
from app.spec.job import parse_spec
from app.store.durable import remove_folder
from app.store.layout import Layout
from app.telemetry import get_logger
from workers import record
from workers.assignment import build_assignment
from workers.lease import LeaseKeeper, Verdict
from workers.protocol import (
    AliveEvent,
    DoneEvent,
    DrainedEvent,
    Event,
    FailedEvent,
    FinishedEvent,
    MetricsEvent,
    ProgressEvent,
)
from workers.publish import publish_model, publish_result
from workers.trainer_process import TrainerProcess

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = get_logger(__name__)
COALESCE_S = 0.5  # metrics and progress are written together at most this often
RETRY_S = 0.5


class JobRun:
    """Supervises one trainer to the end of one run."""

    def __init__(
        self, settings: Settings, database: Database, layout: Layout, claim: Claim, worker_id: str,
        trainer: TrainerProcess,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._database = database
        self._layout = layout
        self._claim = claim
        self._trainer = trainer
        self._keeper = LeaseKeeper(database, settings, claim, worker_id, trainer)
        self._pending: list[MetricsEvent | ProgressEvent] = []
        self._flushed_at = 0.0
        self._ending: Event | None = None
        self._keep: int | None = 1

    def execute(self) -> None:
        """Run the job and end the run; returns normally however it ended."""
        self._keeper.start()
        try:
            self._supervise()
        except LeaseLost:
            self._abandon()
        except AttuneError as failure:
            # Before the trainer had anything to do: a file or a model that has gone, say.
            self._trainer.kill()
            details = failure.to_dict()
            self._end_safely(lambda: self._fail(details))
        except Exception as error:
            log.exception("jobs.supervisor_failed", job_id=self._claim.job_id)
            self._trainer.kill()
            message = f"the supervisor failed: {type(error).__name__}"
            self._end_safely(lambda: self._crashed(message))
        finally:
            self._keeper.stop()

    def _supervise(self) -> None:
        with self._database.read() as session:
            assignment = build_assignment(session, self._claim, self._layout, self._settings)
        self._keep = parse_spec(assignment.spec).kept_checkpoints
        assignment.folder.mkdir(parents=True, exist_ok=True)
        self._trainer.send(assignment)
        while (event := self._next_event()) is not None:
            self._keeper.note_progress()
            self._take(event)
        self._flush()
        self._end()

    def _next_event(self) -> Event | None:
        while True:
            try:
                return self._trainer.next_event(COALESCE_S)
            except queue.Empty:
                self._flush()

    def _take(self, event: Event) -> None:
        match event:
            case AliveEvent():
                pass
            case MetricsEvent() | ProgressEvent():
                self._pending.append(event)
                if time.monotonic() - self._flushed_at >= COALESCE_S:
                    self._flush()
            case FinishedEvent() | DoneEvent() | FailedEvent() | DrainedEvent():
                self._flush()
                self._ending = event
            case _:
                # What came before must be on record before a checkpoint says that it is behind us.
                self._flush()
                self._write(lambda s: record.write(s, self._claim, event, self._layout, self._keep))

    def _flush(self) -> None:
        if not self._pending:
            return
        events, self._pending = self._pending, []
        self._write(lambda session: record.write_points(session, self._claim, events))
        self._flushed_at = time.monotonic()

    def _end(self) -> None:
        match self._keeper.verdict, self._ending:
            case (Verdict.LOST, _):
                raise LeaseLost
            case (Verdict.CANCELLED, _):
                self._write(lambda session: lifecycle.cancelled(session, self._claim))
            case (Verdict.LATE, _):
                error = TrainingFailed(
                    "the job was not done within runtime.max_runtime_s",
                    code="deadline_exceeded",
                    param="runtime.max_runtime_s",
                )
                self._fail(error.to_dict())
            case (Verdict.HUNG, _):
                self._crashed(f"no progress for {self._settings.progress_timeout_s:.0f} s")
            case (_, FinishedEvent() as finished):
                self._keeper.note_progress()
                publish_model(self._write, self._claim, finished, self._layout)
            case (_, DoneEvent() as done):
                self._keeper.note_progress()
                publish_result(self._write, self._claim, done, self._layout)
            case (_, FailedEvent(error=error, retryable=False)):
                self._fail(error)
            case (_, FailedEvent(error=error)):
                self._crashed(str(error["message"]))
            case (Verdict.DRAINING, _) | (_, DrainedEvent()):
                self._write(
                    lambda session: lifecycle.requeue(
                        session,
                        self._claim,
                        "The worker is shutting down; the job goes back to the queue",
                        outcome="drained",
                        delay_s=0.0,
                        crashed=False,
                    )
                )
            case _:
                self._crashed(f"the trainer died ({_describe(self._trainer.close())})")

    def _fail(self, error: dict[str, object]) -> None:
        self._write(lambda session: lifecycle.fail(session, self._claim, error))

    def _crashed(self, message: str) -> None:
        """T5 or T6: try again while the budget lasts."""
        self._write(lambda session: record.crash(session, self._claim, message, self._settings))

    def _write(self, work: Callable[[Session], None]) -> None:
        """Do `work` in one transaction, waiting out a database that is away while the lease is ours."""
        while True:
            try:
                with self._database.transaction() as session:
                    work(session)
            except Unavailable:
                if self._keeper.verdict is Verdict.LOST:
                    raise LeaseLost from None
                time.sleep(RETRY_S)
            else:
                return

    def _end_safely(self, end: Callable[[], None]) -> None:
        try:
            end()
        except LeaseLost:
            self._abandon()

    def _abandon(self) -> None:
        """The job is not ours: leave its rows alone. A cancel that raced with the end is still ours."""
        self._trainer.kill()
        log.warning("jobs.lease_lost", job_id=self._claim.job_id, lease_epoch=self._claim.epoch)
        try:
            with self._database.transaction() as session:
                lifecycle.cancelled(session, self._claim)
        except (LeaseLost, Unavailable):
            remove_folder(self._layout.run(self._claim.job_id, self._claim.epoch) / "model")


def _describe(exit_code: int) -> str:
    return f"signal {-exit_code}" if exit_code < 0 else f"exit status {exit_code}"
