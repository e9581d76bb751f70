"""Everything on one machine: broker, worker and API as supervised children of one process.

`attune up` runs it in the main thread until a signal comes, `attune quickstart` in its own thread.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.credentials import Credentials
from app.cli.exits import Failure
from app.cli.instance import Instance
from app.cli.local import ensure_key, load_settings, migrate
from app.cli.serve import GRACE_S, listen
from app.cli.supervisor import TICK_S, Child, Supervisor, tail
from app.kit.clock import monotonic
from app.kit.db import Database
from app.kit.process import python
from app.queue.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from app.settings import Settings

START_S = 90.0
BROKER, WORKER, API = "broker", "worker", "api"
MAX_START_DEATHS = 3


@dataclass(frozen=True)
class Started:
    """The running stack: where it answers, with which key, and whether that key is new."""

    credentials: Credentials
    is_new_key: bool


class Stack:
    """One machine's Attune."""

    def __init__(
        self, settings: Settings, host: str, port: int, say: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.host = host
        self.port = port
        self.logs = settings.home / "logs"
        self.hurry = threading.Event()
        self._say = say
        self._env = os.environ | {"ATTUNE_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"}
        self._instance = Instance(settings.home)
        self._supervisor = Supervisor(say)
        self._database: Database | None = None
        self._broker: EmbeddedBroker | None = None
        self._listener: socket.socket | None = None

    def run(self, stopped: threading.Event, ready: Callable[[Started], None]) -> None:
        """Start everything, call `ready`, look after it until `stopped` is set, and drain it.

        Raises:
            Failure: something did not start; what did is stopped again.
        """
        try:
            started = self._start(stopped)
            if started is not None:
                ready(started)
            while not stopped.wait(TICK_S):
                self._supervisor.tick()
        finally:
            self._stop()

    def _start(self, stopped: threading.Event) -> Started | None:
        self._instance.take()
        self._listener = listen(self.host, self.port)
        url = url_of(self._listener)
        migrate(self._env)
        self._database = Database(self.settings.resolved_database_url)
        credentials, is_new = ensure_key(self.settings, self._database, url)
        self._instance.note(url)
        if self.settings.broker_url is None:
            self._start_broker()
        self._start_worker_and_api()
        if not self._wait(stopped, self._is_up, "the API and the worker"):
            return None
        self._instance.note(url, is_ready=True)
        return Started(credentials, is_new)

    def _start_broker(self) -> None:
        broker = self._broker = EmbeddedBroker(self.settings)
        broker.prepare()
        child = Child(BROKER, broker.command(), broker.log, self._env, 10.0, (broker.lock_fd,))
        self._supervisor.start(child)
        deadline = monotonic() + START_S
        is_aside = False
        while not broker.is_ready():
            if not child.is_alive and not is_aside:
                is_aside = True
                aside = broker.set_aside()
                self._say(
                    f"the broker could not read its folder; moved to {aside.name}, starting afresh"
                )
            if child.deaths >= MAX_START_DEATHS or monotonic() > deadline:
                raise did_not_start(BROKER, broker.log)
            self._supervisor.tick()
            threading.Event().wait(0.02)

    def _start_worker_and_api(self) -> None:
        if self._listener is None:
            message = "the API needs its socket first"
            raise AssertionError(message)
        drain_s = self.settings.drain_timeout_s + 5
        log = self.logs / "worker.log"
        self._supervisor.start(Child(WORKER, python("workers"), log, self._env, drain_s))
        # The socket stays ours: requests wait, instead of failing, while the API is restarted.
        fd = self._listener.fileno()
        command = python("app.cli", "serve", "--fd", str(fd))
        log = self.logs / "api.log"
        self._supervisor.start(Child(API, command, log, self._env, GRACE_S + 5, (fd,)))

    def _is_up(self) -> bool:
        return self._worker_is_up() and self._api_is_up()

    def _worker_is_up(self) -> bool:
        from app.jobs import workers

        worker = next(c for c in self._supervisor.children if c.name == WORKER)
        if self._database is None or not worker.is_alive or worker.process is None:
            return False
        with self._database.read() as session:
            host, pid = socket.gethostname(), worker.process.pid
            return workers.alive(session, self.settings.lease_ttl_s, host=host, pid=pid) > 0

    def _api_is_up(self) -> bool:
        import httpx2

        if self._listener is None:
            return False
        try:
            answer = httpx2.get(f"{url_of(self._listener)}/readyz", timeout=5.0, trust_env=False)
        except httpx2.TransportError:
            return False
        return answer.is_success

    def _wait(self, stopped: threading.Event, is_up: Callable[[], bool], what: str) -> bool:
        deadline = monotonic() + START_S
        while not stopped.is_set():
            if is_up():
                return True
            self._supervisor.tick()
            for child in self._supervisor.children:
                if child.deaths >= MAX_START_DEATHS:
                    raise did_not_start(child.name, child.log)
            if monotonic() > deadline:
                raise did_not_start(what, self.logs / "api.log")
            stopped.wait(0.1)
        return False

    def _stop(self) -> None:
        """The worker first, while broker and database are there to hand its job back."""
        self._supervisor.stop(WORKER, API, BROKER, hurry=self.hurry)
        if self._listener is not None:
            self._listener.close()
        if self._broker is not None:
            self._broker.release()
        if self._database is not None:
            self._database.dispose()
        self._instance.release()


def prepare_home(home: Path | None) -> Settings:
    """Make the home folder, private, and return the settings that live in it.

    Sets ATTUNE_HOME, so that this process and its children mean the same folder wherever they run.
    """
    if home is not None:
        os.environ["ATTUNE_HOME"] = str(home)
    folder = load_settings().home.absolute()
    os.environ["ATTUNE_HOME"] = str(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise Failure(f"cannot use {folder} as home: {error.strerror or error}") from None
    return load_settings()


def prepare_key(settings: Settings) -> bool:
    """Migrate and make this machine's key if it has none; return whether it is new."""
    instance = Instance(settings.home)
    instance.take()
    try:
        migrate()
        database = Database(settings.resolved_database_url)
        url = f"http://{settings.host}:{settings.port}"
        _, is_new = ensure_key(settings, database, url)
        database.dispose()
    finally:
        instance.release()
    return is_new


def url_of(listener: socket.socket) -> str:
    """Return the address that a client on this machine uses."""
    name, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(name), str(name))  # noqa: S104 - not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def did_not_start(name: str, log: Path) -> Failure:
    """Return the error for a child that does not come up, with the end of its log."""
    return Failure(f"{name} did not start; the end of {log}:\n{tail(log)}")
