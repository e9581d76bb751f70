"""What a trainer's events become in the database. Each function is one fenced transaction's work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.jobs import lifecycle, recording
from app.jobs.lifecycle import Claim
from app.jobs.tables import Checkpoint
from app.kit.db import after_commit, database_now
from app.kit.ids import new_id
from app.settings import Settings
from app.store.durable import remove_folder
from app.store.layout import Layout
from workers.protocol import (
    CheckpointEvent,
    Event,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ProgressEvent,
    QuarantineEvent,
    ResolvedEvent,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def write(session: Session, claim: Claim, event: Event, layout: Layout, keep: int | None) -> None:
    """Record one event that is neither a point nor an ending.

    `keep` checkpoints stay, and the best; all of them where it is None.

    Raises:
        LeaseLost: the job is not this run's any more.
    """
    match event:
        case PhaseEvent(phase=phase):
            lifecycle.fenced(session, claim, phase=phase)
            _say(session, claim, "phase", phase.capitalize(), data={"phase": phase})
        case ResolvedEvent():
            lifecycle.fenced(session, claim, resolved=event.spec)
            recording.describe_run(
                session, claim, environment=event.environment,
                resumed_from_step=event.resumed_from_step,
            )  # fmt: skip
            message = (
                "Settings resolved"
                if event.resumed_from_step is None
                else f"Resuming from {_unit(keep)} {event.resumed_from_step}"
            )
            _say(session, claim, "resolved", message,
                 data={"spec": event.spec, "data": event.data})  # fmt: skip
        case LogEvent(level=level, message=message, data=data):
            lifecycle.fenced(session, claim)
            _say(session, claim, "log", message, level=level, data=data or None)
        case CheckpointEvent():
            _add_checkpoint(session, claim, event, layout, keep)
        case QuarantineEvent(checkpoint_id=checkpoint_id, reason=reason):
            lifecycle.fenced(session, claim)
            recording.quarantine(session, claim, checkpoint_id)
            message = f"A checkpoint is damaged and will not be used: {reason}"
            _say(session, claim, "log", message, level="warning",
                 data={"checkpoint_id": checkpoint_id})  # fmt: skip
        case _:
            message = f"{type(event).__name__} is not recorded here"
            raise AssertionError(message)


def write_points(
    session: Session, claim: Claim, events: Sequence[MetricsEvent | ProgressEvent]
) -> None:
    """Record metrics and the newest progress, and the evaluations as events for people.

    Raises:
        LeaseLost: the job is not this run's any more.
    """
    progress = next((e for e in reversed(events) if isinstance(e, ProgressEvent)), None)
    if progress is None:
        lifecycle.fenced(session, claim)
    else:
        lifecycle.fenced(session, claim, progress=progress.model_dump(exclude={"type"}))
    metrics = [event for event in events if isinstance(event, MetricsEvent)]
    recording.add_metrics(session, claim, [(event.step, event.values) for event in metrics])
    for event in metrics:
        evaluated = {name: v for name, v in event.values.items() if name.startswith("eval/")}
        if evaluated:
            shown = ", ".join(f"{name[5:]} {value:.4f}" for name, value in evaluated.items())
            _say(session, claim, "metrics", f"Step {event.step}: {shown}",
                 data={"step": event.step, "values": evaluated})  # fmt: skip


def crash(session: Session, claim: Claim, message: str, settings: Settings) -> None:
    """T5 or T6: requeue with back-off while the budget lasts, else fail.

    Raises:
        LeaseLost: the job is not this run's any more.
    """
    crashes = recording.crashes(session, claim) + 1
    if crashes >= settings.crash_budget or claim.epoch >= settings.max_runs:
        error = {
            "code": "crashed",
            "message": f"{message}; given up after {crashes} crashes without a new checkpoint",
            "param": None,
            "details": {"runs": claim.epoch},
        }
        lifecycle.fail(session, claim, error, outcome="crashed")
        return
    lifecycle.requeue(
        session,
        claim,
        f"{message}; the job goes back to the queue",
        outcome="crashed",
        delay_s=settings.retry_backoff_s * 2 ** (crashes - 1),
        crashed=True,
    )


def _add_checkpoint(
    session: Session, claim: Claim, event: CheckpointEvent, layout: Layout, keep: int | None
) -> None:
    row = Checkpoint(
        id=new_id("ckpt"),
        tenant_id=claim.tenant_id,
        job_id=claim.job_id,
        epoch=claim.epoch,
        step=event.step,
        folder=layout.relative(event.folder),
        manifest_sha256=event.manifest_sha256,
        bytes=event.bytes,
        metrics=event.metrics,
        is_best=event.is_best,
        state="committed",
        created_at=database_now(session),
    )
    recording.add_checkpoint(session, claim, row)
    _say(session, claim, "checkpoint", f"Checkpoint at {_unit(keep)} {event.step}",
         data={"checkpoint_id": row.id, "step": event.step})  # fmt: skip
    if keep is None:
        return
    # Older ones go only once the newer one is on record, and their files only after the commit.
    dropped = [
        layout.absolute(folder) for folder in recording.drop_checkpoints(session, claim, keep)
    ]
    after_commit(session, lambda: [remove_folder(folder) for folder in dropped])


def _unit(keep: int | None) -> str:
    """Return what steps are: where all checkpoints are kept, each is of so many rows."""
    return "step" if keep is not None else "row"


def _say(
    session: Session, claim: Claim, type_: str, message: str, *, level: str = "info",
    data: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    lifecycle.add_event(session, claim.job_id, type_, message, level=level, data=data)
