"""The real trainer over its real pipes, as a supervisor sees it, and small jobs to give it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.store.durable import sha256_of
from tests.tiny import make_model_folder
from workers.protocol import (
    EVENT,
    Assignment,
    CheckpointEvent,
    CheckpointRef,
    Command,
    Event,
    InputFile,
    LogEvent,
    MetricsEvent,
)

ROOT = Path(__file__).resolve().parents[1]
TRAIN_ID = "file-" + "a" * 26
GOOD = ("a fine film", "what a joy", "good acting and a good plot", "i loved it", "great and warm")
BAD = ("a dull film", "what a bore", "bad acting and a worse plot", "i hated it", "cold and empty")
ENDINGS = (
    "",
    " from start to end",
    " and so was the music",
    " i say",
    " again and again and again",
)
SENTENCES = tuple(head + tail for head in (*GOOD, *BAD) for tail in ENDINGS)
TIMING = {"train/samples_per_s", "train/tokens_per_s", "memory/mb"}


def write_rows(path: Path, count: int = 96, seed: int = 0) -> Path:
    """Write a sentiment set of `count` rows in which the words decide the label."""
    rng = random.Random(seed)  # noqa: S311 - test data
    rows = []
    for number in range(count):
        label, heads = ("good", GOOD) if number % 2 else ("bad", BAD)
        text = f"{rng.choice(heads)}{rng.choice(ENDINGS)} {rng.choice('abcdefgh')} {number}"
        rows.append(json.dumps({"text": text, "label": label}))
    path.write_text("\n".join(rows) + "\n")
    return path


class TinyJob:
    """A job of seconds: a random BERT, a sentiment set, and a folder for each run."""

    def __init__(self, folder: Path, **optimization: Any) -> None:
        self.folder = folder
        make_model_folder(folder / "bases" / "tiny", texts=(*SENTENCES, "0 1 2 3 4 5 6 7 8 9"))
        self.file = write_rows(folder / "train.jsonl")
        self.runtime: dict[str, Any] = {
            "evaluate_every": 5, "checkpoint_every": 3, "seed": 7, "seeds": 1,
        }  # fmt: skip
        self.optimization = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, **optimization}
        self.task: Any = "text-classification"
        self.runs = 0
        self.drained: list[Event] = []  # what the last run that was drained had said

    def spec(self) -> dict[str, Any]:
        return {
            "kind": "fine_tune",
            "model": "tiny",
            "task": self.task,
            "data": {"train": TRAIN_ID, "split": {"validation": 0.5}},
            "optimization": self.optimization,
            "runtime": self.runtime,
        }

    def assignment(
        self, checkpoints: Sequence[CheckpointRef] = (), lease_ttl_s: float = 60.0
    ) -> Assignment:
        """Return the assignment of the next run."""
        self.runs += 1
        folder = self.folder / "runs" / f"e{self.runs:04d}"
        folder.mkdir(parents=True)
        return Assignment(
            job_id="job-tiny",
            epoch=self.runs,
            model_id="ft:tiny:test:0000000000",
            spec=self.spec(),
            files={
                TRAIN_ID: InputFile(
                    id=TRAIN_ID, filename="train.jsonl", path=self.file, sha256=sha256_of(self.file)
                )
            },
            checkpoints=list(checkpoints),
            folder=folder,
            model_dirs=[self.folder / "bases"],
            hub=False,
            lease_ttl_s=lease_ttl_s,
        )


class TrainerChild:
    """`python -m workers.trainer` with its two pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.trainer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self.seen: list[Event] = []
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._errors: list[bytes] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._drain_errors, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(EVENT.validate_json(line))
        self._events.put(None)

    def _drain_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors += self.process.stderr

    @property
    def errors(self) -> str:
        return b"".join(self._errors).decode(errors="replace")

    def send(self, command: Command) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()

    def until(self, is_it: Callable[[Event], bool], timeout_s: float = 120.0) -> Event | None:
        """Return the first event that `is_it`, or None when the child closed its pipe first."""
        deadline = time.monotonic() + timeout_s
        while True:
            event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            if event is None:
                return None
            self.seen.append(event)
            if is_it(event):
                return event

    def until_ready(self) -> None:
        ready = self.until(lambda event: isinstance(event, LogEvent) and event.message == "ready")
        assert ready is not None, self.errors

    def until_end(self) -> Event:
        """Read to the end of the pipe and return the last event."""
        self.until(lambda _: False)
        self.process.wait(timeout=30)
        return self.seen[-1]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.until(lambda _: False)
        self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def references(events: Sequence[Event]) -> list[CheckpointRef]:
    """Return the checkpoints among `events` as a supervisor hands them on, newest first."""
    found = [
        CheckpointRef(
            id=f"ckpt-{index}",
            step=event.step,
            folder=event.folder,
            manifest_sha256=event.manifest_sha256,
            is_best=event.is_best,
        )
        for index, event in enumerate(events)
        if isinstance(event, CheckpointEvent)
    ]
    return sorted(found, key=lambda ref: ref.step, reverse=True)


def series(events: Sequence[Event]) -> dict[tuple[int, str], float]:
    """Return every metric by step and name; a step that was done twice keeps its last value."""
    return {
        (event.step, name): value
        for event in events
        if isinstance(event, MetricsEvent)
        for name, value in event.values.items()
        if name not in TIMING
    }
