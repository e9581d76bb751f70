"""The trainer over its real pipes: a whole job, and every way in which it may be interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.store.manifest import verify_folder
from tests.trainer_child import TinyJob, TrainerChild, references, series
from workers.protocol import (
    CheckpointEvent,
    Drain,
    DrainedEvent,
    Event,
    FailedEvent,
    FinishedEvent,
    Lease,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ProgressEvent,
    QuarantineEvent,
    ResolvedEvent,
)

EXIT_ORPHANED = 75
LAST_STEP = 18


@pytest.fixture
def start() -> Iterator[Callable[[], TrainerChild]]:
    children: list[TrainerChild] = []

    def make() -> TrainerChild:
        children.append(TrainerChild())
        return children[-1]

    yield make
    for child in children:
        child.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[TinyJob, list[Event]]:
    job = TinyJob(tmp_path_factory.mktemp("undisturbed"))
    child = TrainerChild()
    try:
        child.send(job.assignment())
        child.until_end()
        assert child.process.returncode == 0, child.errors
        return job, child.seen
    finally:
        child.close()


def finished(events: list[Event]) -> FinishedEvent:
    assert isinstance(events[-1], FinishedEvent), events[-1]
    return events[-1]


def weights(events: list[Event]) -> bytes:
    return (finished(events).folder / "model.safetensors").read_bytes()


def at_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, MetricsEvent) and event.step >= step


def test_a_whole_job(undisturbed):
    _, events = undisturbed
    assert isinstance(events[0], LogEvent)
    assert events[0].message == "ready"
    assert [e.phase for e in events if isinstance(e, PhaseEvent)] == [
        "validating", "loading", "encoding", "evaluating", "training", "evaluating", "saving",
    ]  # fmt: skip
    (resolved,) = [e for e in events if isinstance(e, ResolvedEvent)]
    assert "auto" not in json.dumps(resolved.spec["optimization"])
    assert resolved.spec["task"]["labels"] == ["bad", "good"]
    assert resolved.environment["threads"] == 1
    assert resolved.resumed_from_step is None
    points = series(events)
    assert {step for step, name in points if name == "train/loss"} == set(range(1, LAST_STEP + 1))
    assert {step for step, name in points if name == "eval/accuracy"} == {0, 5, 10, 15, LAST_STEP}
    assert [e for e in events if isinstance(e, ProgressEvent)][-1].percent == 100.0
    done = finished(events)
    verify_folder(done.folder, done.manifest_sha256)
    assert done.report["before"]["accuracy"] >= 0.0
    assert 0.4 < done.report["baselines"]["majority"]["validation"]["metrics"]["accuracy"] < 0.6
    best = max((e for e in events if isinstance(e, CheckpointEvent) and e.is_best),
               key=lambda e: e.step)  # fmt: skip
    assert done.metrics["validation/accuracy"] == best.metrics["accuracy"]


def test_a_weight_may_fall_while_the_training_goes_on(tmp_path, start, undisturbed):
    """The first step counts in full, later ones by less; evaluations see the end, where it is zero."""
    _, reference = undisturbed
    job, child = TinyJob(tmp_path), start()
    assignment = job.assignment()
    falling = [{"kind": "cross_entropy", "weight": {"start": 1, "end": 0}}]
    child.send(assignment.model_copy(update={"spec": job.spec() | {"losses": falling}}))
    child.until_end()
    points, full = series(child.seen), series(reference)
    first, middle = (1, "train/loss"), (LAST_STEP // 2 + 1, "train/loss")
    assert points[first] == full[first]
    assert 0 < points[middle] < 0.9 * full[middle]
    assert {points[step, "eval/loss"] for step in (0, 5, LAST_STEP)} == {0.0}


def test_plain_transformers_reads_the_model(undisturbed):
    from transformers import pipeline

    _, events = undisturbed
    folder = str(finished(events).folder)
    classify = pipeline("text-classification", model=folder, tokenizer=folder)
    assert classify("a fine film")[0]["label"] in {"bad", "good"}


@pytest.mark.faults
def test_killed_anywhere_it_ends_with_the_same_bytes(undisturbed, tmp_path, start):
    _, reference = undisturbed
    job = TinyJob(tmp_path)
    rng = random.Random(os.environ.get("ATTUNE_TEST_SEED", "kill"))  # noqa: S311 - which step to kill at
    steps = [rng.randint(2, 9), rng.randint(10, LAST_STEP - 1)]
    seen: list[Event] = []
    for step in steps:
        child = start()
        child.send(job.assignment(references(seen)))
        child.until(at_step(step))
        child.kill()
        seen += child.seen
    child = start()
    child.send(job.assignment(references(seen)))
    child.until_end()
    resumed = [e.resumed_from_step for e in child.seen if isinstance(e, ResolvedEvent)]
    assert resumed[0] is not None, steps
    assert weights(child.seen) == weights(reference), f"killed at {steps}"
    assert series([*seen, *child.seen]) == series(reference), f"killed at {steps}"
    assert finished(child.seen).metrics == finished(reference).metrics


@pytest.mark.faults
def test_damaged_checkpoints_are_passed_over(undisturbed, tmp_path, start):
    _, reference = undisturbed
    job = TinyJob(tmp_path)
    first = start()
    first.send(job.assignment())
    first.until(lambda event: isinstance(event, CheckpointEvent) and event.step >= 9)
    first.kill()
    newest, second, third, *_ = references(first.seen)
    damaged = newest.folder / "network.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    (second.folder / "state.json").unlink()
    child = start()
    child.send(job.assignment(references(first.seen)))
    child.until_end()
    said = [e for e in child.seen if isinstance(e, QuarantineEvent)]
    assert [e.checkpoint_id for e in said] == [newest.id, second.id]
    (resolved,) = [e for e in child.seen if isinstance(e, ResolvedEvent)]
    assert resolved.resumed_from_step == third.step
    assert weights(child.seen) == weights(reference)


@pytest.mark.faults
def test_with_every_checkpoint_damaged_it_starts_again(undisturbed, tmp_path, start):
    job, reference = undisturbed
    copies = [
        ref.model_copy(update={"folder": tmp_path / "gone" / str(ref.step)})
        for ref in references(reference)[:2]
    ]
    child = start()
    child.send(job.assignment(copies))
    child.until_end()
    assert sum(isinstance(e, QuarantineEvent) for e in child.seen) == 2
    warnings = [e.message for e in child.seen if isinstance(e, LogEvent) and e.level == "warning"]
    assert any("from the beginning" in message for message in warnings)
    assert weights(child.seen) == weights(reference)


@pytest.mark.parametrize("how", ["command", "signal"])
def test_drain_saves_and_the_next_run_goes_on(undisturbed, tmp_path, start, how):
    _, reference = undisturbed
    job = TinyJob(tmp_path)
    first = start()
    first.send(job.assignment())
    first.until(at_step(4))
    if how == "command":
        first.send(Drain())
    else:
        first.process.send_signal(signal.SIGTERM)
    assert isinstance(first.until_end(), DrainedEvent)
    assert first.process.returncode == 0
    newest = references(first.seen)[0]
    last_step = max(step for step, _ in series(first.seen))
    assert newest.step == last_step
    child = start()
    child.send(job.assignment(references(first.seen)))
    child.until_end()
    assert weights(child.seen) == weights(reference)


def test_it_ends_when_the_supervisor_goes_away(start):
    child = start()
    child.until_ready()
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(timeout=30) == EXIT_ORPHANED


def test_it_ends_when_the_lease_is_not_renewed(tmp_path, start):
    job = TinyJob(tmp_path, epochs=1000)
    child = start()
    child.until_ready()
    child.send(job.assignment(lease_ttl_s=60.0))  # until its first step, however slow the machine
    child.until(at_step(1))
    for _ in range(6):  # renewed for longer than one lease lasts
        child.send(Lease(ttl_s=2.0))
        threading.Event().wait(0.5)
    assert child.process.poll() is None
    child.until(lambda _: False)
    assert child.process.wait(timeout=30) == EXIT_ORPHANED


def test_what_is_wrong_with_the_data_is_said_by_row(tmp_path, start):
    job = TinyJob(tmp_path)
    lines = job.file.read_text().splitlines()
    lines[4] = json.dumps({"text": "   ", "label": "good"})
    job.file.write_text("\n".join(lines) + "\n")
    child = start()
    child.send(job.assignment())
    failed = child.until_end()
    assert isinstance(failed, FailedEvent)
    assert not failed.retryable
    assert failed.error["code"] == "empty_text"
    assert failed.error["details"]["row"] == 5
    assert failed.error["details"]["column"] == "text"


def test_a_loss_that_is_not_finite_ends_the_job(tmp_path, start):
    steps = {"optimizer": "sgd", "learning_rate": 10.0, "gradient_clip": None}
    job = TinyJob(tmp_path, **steps)
    texts = [json.loads(line)["text"] for line in job.file.read_text().splitlines()]
    numbers = (0.5, 9e14)  # at this rate, the weights soon are past what 32 bits hold
    rows = [json.dumps({"text": t, "label": numbers[i % 2]}) for i, t in enumerate(texts)]
    job.file.write_text("\n".join(rows) + "\n")
    child = start()
    child.send(job.assignment())
    failed = child.until_end()
    assert isinstance(failed, FailedEvent), failed
    assert not failed.retryable
    assert failed.error["code"] == "loss_not_finite"
    assert failed.error["param"] == "optimization.learning_rate"


def test_nothing_is_written_outside_the_run(undisturbed):
    job, _ = undisturbed
    found = {path.relative_to(job.folder).parts[0] for path in Path(job.folder).iterdir()}
    assert found == {"bases", "runs", "train.jsonl"}
    assert list((job.folder / "runs").rglob(".tmp-*")) == []
