"""A fresh, migrated home with a key in a temporary folder, and servers started on it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.auth.service import create_key, ensure_tenant
from app.kit.db import Database
from app.settings import Settings
from migrations.run import upgrade

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Home:
    """Where a server's state lies, the key of its first tenant, and the settings it reads."""

    path: Path
    tenant_id: str
    key: str
    settings: Settings
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment for a server on this home."""
        kept = {
            name: value
            for name, value in os.environ.items()
            # Compiled modules are cached on any other machine; a benchmark of starting wants them.
            if not name.startswith("ATTUNE_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        return kept | {"ATTUNE_HOME": str(self.path), "ATTUNE_HUB": "false", **self.extra}


@contextlib.contextmanager
def fresh_home() -> Generator[Home]:
    """Make a home that nothing has run on yet."""
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
        path = Path(folder)
        settings = Settings(home=path)
        upgrade(settings.resolved_database_url)
        database = Database(settings.resolved_database_url)
        with database.transaction() as session:
            tenant = ensure_tenant(session, "default")
            key = create_key(session, settings.pepper, tenant.id, name="bench", scopes=["all"])
        database.dispose()
        yield Home(path, tenant.id, key.secret, settings)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], port: int, home: Home) -> Generator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; its log lies in the home."""
    with (home.path / f"{port}.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=home.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(port, process, home)
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], home: Home) -> None:
    """Wait until something listens on the port.

    Raises:
        RuntimeError: the process ended, or took too long.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > until:
            log = (home.path / f"{port}.log").read_text(errors="replace")
            raise RuntimeError(f"the server did not start:\n{log[-3000:]}")
        time.sleep(0.005)
