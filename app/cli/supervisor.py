"""Children that are meant to run: restarted with back-off, drained in order, logs kept small.

Knows processes and files, nothing of what the children do. All methods belong to one thread, as the
children's parent-death signal follows the thread that started them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.kit.clock import monotonic
from app.kit.process import kill_session, spawn

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0  # a child that lived this long has its back-off forgiven
MAX_LOG_BYTES = 32 * 1024 * 1024
TICK_S = 0.2


@dataclass
class Child:
    """One process to keep alive. `stop_s` is how long it may take to end after SIGTERM."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str]
    stop_s: float
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started_at: float = 0.0
    start_at: float = field(default=0.0)

    @property
    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Keeps its children alive until it is told to stop them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.children: list[Child] = []

    def start(self, child: Child) -> None:
        """Start a child and look after it from now on."""
        self.children.append(child)
        self._spawn(child)

    def tick(self) -> None:
        """Restart what died and is due, and keep logs small. Call it a few times a second."""
        now = monotonic()
        for child in self.children:
            if child.is_alive:
                if child.deaths and now - child.started_at > HEALTHY_S:
                    child.deaths = 0
                _trim(child.log)
            elif child.process is not None:
                self._bury(child, now)
            elif now >= child.start_at:
                self._spawn(child)

    def stop(self, *names: str, hurry: threading.Event | None = None) -> None:
        """End the named children in this order, with SIGTERM and, when time is up, SIGKILL."""
        for name in names:
            for child in [c for c in self.children if c.name == name]:
                self.children.remove(child)
                _end(child, hurry)

    def _spawn(self, child: Child) -> None:
        child.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(child.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            child.process = spawn(child.command, env=child.env, output=log, pass_fds=child.pass_fds)
        child.started_at = monotonic()

    def _bury(self, child: Child, now: float) -> None:
        if child.process is None:
            return
        status = child.process.returncode
        kill_session(child.process)  # what it leaves behind would compete with its successor
        child.process = None
        backoff_s = min(FIRST_BACKOFF_S * 2**child.deaths, MAX_BACKOFF_S)
        child.deaths += 1
        child.start_at = now + backoff_s
        how = (
            f"was killed by {_signal_name(-status)}"
            if status < 0
            else f"ended with status {status}"
        )
        self._say(f"{child.name} {how}; starting it again in {backoff_s:g} s (log: {child.log})")


def _end(child: Child, hurry: threading.Event | None) -> None:
    process = child.process
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    deadline = monotonic() + child.stop_s
    while process.poll() is None and monotonic() < deadline:
        if hurry is not None and hurry.is_set():
            break
        try:
            process.wait(timeout=TICK_S)
        except subprocess.TimeoutExpired:
            continue
    kill_session(process)
    child.process = None


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])


def _trim(log: Path) -> None:
    """Keep one old log. Children append, so cutting the file under them loses a moment only."""
    try:
        if log.stat().st_size > MAX_LOG_BYTES:
            log.with_suffix(".log.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)
    except OSError:
        return


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
