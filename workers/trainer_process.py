"""The trainer as its supervisor sees it: a child in its own session, with a pipe in and a pipe out."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from typing import IO

from pydantic import ValidationError

from app.kit.process import python
from app.telemetry import get_logger
from workers.protocol import EVENT, Command, Event, LogEvent

log = get_logger(__name__)
READY = "ready"


class TrainerProcess:
    """One child, started warm: it imports torch and then waits for its assignment."""

    def __init__(self) -> None:
        # argv list and no shell; no ATTUNE_ variable, because those hold the secrets.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ATTUNE_")}
        self._process = subprocess.Popen(
            python("workers.trainer"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.ready = threading.Event()
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._write_lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="trainer-events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The child's process id, also its session and process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The child's exit status, negative for a signal; None while it lives."""
        return self._process.poll()

    def send(self, command: Command) -> None:
        """Write one command; a dead child takes it silently, its end is seen by `next_event`."""
        line = command.model_dump_json().encode() + b"\n"
        with self._write_lock, contextlib.suppress(BrokenPipeError, ValueError):
            pipe = _pipe(self._process.stdin)
            pipe.write(line)
            pipe.flush()

    def next_event(self, timeout_s: float) -> Event | None:
        """Return the next event, None once the child has closed its pipe.

        Raises:
            queue.Empty: nothing came within the timeout.
        """
        event = self._events.get(timeout=timeout_s)
        if event is None:
            self._events.put(None)  # stays ended for whoever asks again
        return event

    def kill(self) -> None:
        """SIGKILL the child and everything in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> int:
        """Kill what still lives, close the pipes, reap the child and return its exit status."""
        self.kill()
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        self._reader.join(timeout=5.0)
        return self._process.wait()

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in _pipe(self._process.stdout):
                try:
                    event = EVENT.validate_json(line)
                except ValidationError:
                    log.warning(
                        "trainer.unreadable_event", line=line[:200].decode(errors="replace")
                    )
                    continue
                if isinstance(event, LogEvent) and event.message == READY:
                    self.ready.set()
                else:
                    self._events.put(event)
        self._events.put(None)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        message = "the trainer was started without pipes"
        raise AssertionError(message)
    return pipe
