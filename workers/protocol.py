"""What supervisor and trainer say to each other: JSON lines over two pipes.

Supervisor to trainer (stdin): one `Assignment`, then `Lease` and `Drain`. Trainer to supervisor (its
first stdout): the `Event` union. End of file on either side means that the other has died.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from app.kit.schema import Frozen


class InputFile(Frozen):
    """An uploaded file as the trainer sees it."""

    id: str
    filename: str
    path: Path
    sha256: str


class CheckpointRef(Frozen):
    """A committed checkpoint to resume from; candidates come newest first."""

    id: str
    step: int
    folder: Path
    manifest_sha256: str
    is_best: bool = False


class SourceCheckpoint(Frozen):
    """A checkpoint of a finished job that this job starts from, and the resolved spec it was made by."""

    folder: Path
    manifest_sha256: str
    spec: dict[str, Any]


class Assignment(Frozen):
    """Everything a trainer needs to know. It holds no secret and no database address."""

    type: Literal["assign"] = "assign"
    job_id: str
    epoch: int
    model_id: str | None = Field(
        default=None, description="Id the finished model will have; None of a job that makes none."
    )
    spec: dict[str, Any]
    files: dict[str, InputFile]
    models: dict[str, Path] = Field(default={}, description="Folders of finished models by id.")
    sources: dict[str, SourceCheckpoint] = Field(
        default={}, description="Checkpoints of other jobs, by id, that this one starts from."
    )
    checkpoints: list[CheckpointRef] = []
    folder: Path = Field(
        description="This run's own folder; but for the cache, nothing else is written."
    )
    cache: Path | None = Field(
        default=None, description="What the tenant's jobs have computed and may use again."
    )
    model_dirs: list[Path] = []
    hub: bool = True
    lease_ttl_s: float


class Lease(Frozen):
    """The lease was renewed: the trainer may live this much longer without hearing again."""

    type: Literal["lease"] = "lease"
    ttl_s: float


class Drain(Frozen):
    """Save a checkpoint at the next step boundary and exit."""

    type: Literal["drain"] = "drain"


class PhaseEvent(Frozen):
    """The trainer began another kind of work."""

    type: Literal["phase"] = "phase"
    phase: str


class ResolvedEvent(Frozen):
    """Every `"auto"` has its value; `environment` says on what this runs (device, versions)."""

    type: Literal["resolved"] = "resolved"
    spec: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    resumed_from_step: int | None = None


class LogEvent(Frozen):
    """A sentence for people."""

    type: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: str
    data: dict[str, Any] = {}


class ProgressEvent(Frozen):
    """Where the run stands; sent at most a few times a second, and after each evaluation."""

    type: Literal["progress"] = "progress"
    step: int
    total_steps: int
    epoch: float
    percent: float
    eta_s: float | None = None
    samples_per_s: float | None = None
    tokens_per_s: float | None = None
    unit: Literal["step", "row"] = "step"


class AliveEvent(Frozen):
    """Work goes on that has no steps to count; said for the watchdog alone."""

    type: Literal["alive"] = "alive"


class MetricsEvent(Frozen):
    """Values of named series at a step (`train/loss`, `train/learning_rate`, `eval/accuracy`, ...)."""

    type: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, float]


class CheckpointEvent(Frozen):
    """A checkpoint is durable in its folder."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    folder: Path
    manifest_sha256: str
    bytes: int
    metrics: dict[str, float] = {}
    is_best: bool = False


class QuarantineEvent(Frozen):
    """A checkpoint does not match its manifest; an older one (or the start) is used."""

    type: Literal["quarantine"] = "quarantine"
    checkpoint_id: str
    reason: str


class FinishedEvent(Frozen):
    """The model is complete in its folder."""

    type: Literal["finished"] = "finished"
    folder: Path
    manifest_sha256: str
    manifest: dict[str, Any]
    metrics: dict[str, float]
    report: dict[str, Any]
    bytes: int


class OutputFile(Frozen):
    """A file that a job has made, complete and synced in the run's folder."""

    path: Path
    filename: str
    purpose: str
    bytes: int
    sha256: str
    summary: dict[str, Any] | None = None


class DoneEvent(Frozen):
    """A job that makes no model has done its work; `outputs` become files of the tenant."""

    type: Literal["done"] = "done"
    message: str
    report: dict[str, Any]
    outputs: list[OutputFile] = []


class FailedEvent(Frozen):
    """The run ended without a result. `error` has code, message, param, details."""

    type: Literal["failed"] = "failed"
    error: dict[str, Any]
    retryable: bool = False


class DrainedEvent(Frozen):
    """A checkpoint was saved as asked; the process exits."""

    type: Literal["drained"] = "drained"


Event = Annotated[
    PhaseEvent
    | ResolvedEvent
    | LogEvent
    | ProgressEvent
    | AliveEvent
    | MetricsEvent
    | CheckpointEvent
    | QuarantineEvent
    | FinishedEvent
    | DoneEvent
    | FailedEvent
    | DrainedEvent,
    Field(discriminator="type"),
]
Command = Annotated[Assignment | Lease | Drain, Field(discriminator="type")]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
