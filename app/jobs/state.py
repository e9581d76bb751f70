"""The states a job can be in, and the only transitions between them. Pure data: no database, no clock.

States drive code; phases only inform people. Terminal states are immutable.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What the service knows of a job. Code branches on these and nothing else."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """What a running job is busy with; for people."""

    VALIDATING = "validating"
    LOADING = "loading"
    ENCODING = "encoding"
    TEACHING = "teaching"
    TRAINING = "training"
    EVALUATING = "evaluating"
    PREDICTING = "predicting"
    SAVING = "saving"


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
HELD = frozenset({State.RUNNING, State.CANCELLING})  # a worker holds the lease

# (from, to) -> who may do it and why. T-numbers name the transitions in tests and docs.
TRANSITIONS: dict[tuple[State, State], str] = {
    (State.QUEUED, State.RUNNING): "T1 worker: claimed",
    (State.RUNNING, State.SUCCEEDED): "T4 worker: finished and published",
    (State.RUNNING, State.QUEUED): "T5 T7 T8 worker or sweep: retry, drain, or lease expired",
    (State.RUNNING, State.FAILED): "T6 T8 T9 worker or sweep: cannot succeed, or budget spent",
    (State.QUEUED, State.FAILED): "T9 sweep: the deadline passed in the queue",
    (State.QUEUED, State.CANCELLED): "T10 api: cancelled before it ran",
    (State.RUNNING, State.CANCELLING): "T11 api: cancel requested",
    (State.CANCELLING, State.CANCELLED): "T12 worker or sweep: trainer is dead",
}


def is_legal(source: State, target: State) -> bool:
    """Say whether the table has this transition."""
    return (source, target) in TRANSITIONS


def mermaid() -> str:
    """Render the table as a Mermaid state diagram, the one in `docs/architecture.md`."""
    lines = ["stateDiagram-v2", "    [*] --> queued: T0 api: accepted"]
    lines += [f"    {a} --> {b}: {why}" for (a, b), why in TRANSITIONS.items()]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
