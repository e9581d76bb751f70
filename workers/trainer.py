"""The trainer: `python -m workers.trainer`, a child of the supervisor and nothing else.

It imports torch, says that it is ready, and waits for one assignment on stdin. It dies with its supervisor
three times over: by the kernel's parent-death signal, at end-of-file on stdin, and when no lease renewal
has come for as long as a lease lasts (a supervisor that is frozen can neither renew nor kill).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import BinaryIO

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Threads that wait shall sleep: spinning ones cost a contended two-core machine 8x of its speed.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from app.errors import AttuneError
from app.kit.clock import monotonic
from app.spec.job import parse_spec
from workers.protocol import (
    COMMAND,
    Assignment,
    Drain,
    DrainedEvent,
    Event,
    FailedEvent,
    Lease,
    LogEvent,
)

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 75
WATCH_S = 0.5


class Channel:
    """The two pipes: events out, and a thread that obeys what comes in."""

    def __init__(self) -> None:
        # Libraries print to stdout; the pipe is ours alone, so stdout becomes stderr.
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._assigned: threading.Event = threading.Event()
        self._assignment: Assignment | None = None
        self._deadline: float | None = None
        self.draining = threading.Event()
        self._in: BinaryIO = sys.stdin.buffer

    def start(self) -> None:
        """Begin to read and to watch the lease."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def emit(self, event: Event) -> None:
        """Send one event, whole."""
        line = event.model_dump_json().encode() + b"\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()

    def assignment(self) -> Assignment:
        """Wait for the assignment."""
        self._assigned.wait()
        if self._assignment is None:
            raise AssertionError
        return self._assignment

    def _read(self) -> None:
        for line in self._in:
            match COMMAND.validate_json(line):
                case Assignment() as assignment:
                    self._assignment = assignment
                    self._deadline = monotonic() + assignment.lease_ttl_s
                    self._assigned.set()
                case Lease(ttl_s=ttl_s):
                    self._deadline = monotonic() + ttl_s
                case Drain():
                    self.draining.set()
        os._exit(EXIT_ORPHANED)

    def _watch(self) -> None:
        while True:
            threading.Event().wait(WATCH_S)
            if self._deadline is not None and monotonic() > self._deadline:
                os._exit(EXIT_ORPHANED)


def main() -> None:
    """Warm up, wait, train, end."""
    _die_with_parent()
    channel = Channel()

    def drain(_: int, __: FrameType | None) -> None:
        channel.draining.set()

    # The pool child ignores both, and ignored signals survive exec.
    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.start()
    from huggingface_hub import constants
    from transformers.utils import logging

    from workers.recipes import run_recipe
    from workers.training.loop import Drained
    from workers.training.warmup import warm_up

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warm_up()
    channel.emit(LogEvent(message="ready"))
    assignment = channel.assignment()
    if not assignment.hub:
        # Set as the variable HF_HUB_OFFLINE would be, which the library has read long ago.
        constants.HF_HUB_OFFLINE = True
    try:
        spec = parse_spec(assignment.spec)
        channel.emit(run_recipe(assignment, spec, channel.emit, channel.draining.is_set))
    except Drained:
        channel.emit(DrainedEvent())
    except AttuneError as error:
        channel.emit(FailedEvent(error=error.to_dict(), retryable=error.retryable))
    except Exception as error:  # noqa: BLE001 - the last resort: what is not ours is told and retried
        traceback.print_exc()
        message = f"the trainer failed ({type(error).__name__}); the worker's log has the traceback"
        details = {"code": "internal_error", "message": message, "param": None, "details": {}}
        channel.emit(FailedEvent(error=details, retryable=True))
    # Not sys.exit: a daemon thread sits in a read of stdin, whose lock the interpreter would wait for.
    sys.stderr.flush()
    os._exit(0)


def _die_with_parent() -> None:
    """Ask the kernel to kill us when the supervisor dies (Linux; elsewhere end-of-file does it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
