"""Which `attune up` owns a home: a lock that dies with its holder, and a note of its address."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from app.cli.exits import Code, Failure


@dataclass(frozen=True)
class Running:
    """The `attune up` that holds a home; `url` is None until it listens."""

    pid: int
    url: str | None
    is_ready: bool


class Instance:
    """The lock on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "run"
        self._note = self._folder / "up.json"
        self._lock: IO[str] | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            Failure: another `attune up` holds it; the message says which.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self._folder / "up.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise self._taken() from None
        self._lock = lock
        self.note()

    def note(self, url: str | None = None, *, is_ready: bool = False) -> None:
        """Write down who holds the lock and where it answers."""
        fresh = self._note.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": os.getpid(), "url": url, "ready": is_ready}))
        fresh.replace(self._note)

    def release(self) -> None:
        """Let the lock go."""
        if self._lock is not None:
            self._note.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def running(self) -> Running | None:
        """Return who holds the lock; None when nobody does."""
        try:
            with (self._folder / "up.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except OSError:
            return self._read()
        return None

    def _read(self) -> Running:
        try:
            note: Any = json.loads(self._note.read_text())
            return Running(int(note["pid"]), note["url"], bool(note["ready"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Running(0, None, is_ready=False)

    def _taken(self) -> Failure:
        running = self._read()
        where = f" at {running.url}" if running.url else ""
        message = f"attune is already up on {self.home}{where} (process {running.pid})"
        return Failure(
            message, Code.CONFLICT, hint="stop it with `attune down`, or name another --home"
        )
