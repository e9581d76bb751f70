"""The whole system as separate processes on one machine, each of which a test may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from pydantic import SecretStr

from app.auth.service import create_key, ensure_tenant
from app.kit.db import Database
from app.queue.embedded import find_server
from app.settings import Settings
from migrations.run import upgrade
from tests.tiny import make_model_folder

WORDS = ["good", "fine", "great", "lovely", "sweet", "bad", "poor", "awful", "dull", "sour"]
PATIENCE_S = 120.0
# Everything a lease does, ten times faster than in production.
CADENCE = {
    "ATTUNE_LEASE_TTL_S": "4",
    "ATTUNE_HEARTBEAT_S": "0.5",
    "ATTUNE_SELF_FENCE_S": "3",
    "ATTUNE_SWEEP_INTERVAL_S": "0.5",
    "ATTUNE_RELAY_INTERVAL_S": "0.1",
    "ATTUNE_REDISPATCH_AFTER_S": "2",
    "ATTUNE_RETRY_BACKOFF_S": "0.1",
}


def rows(count: int) -> str:
    """Return labelled sentences that even a tiny network can learn something from."""
    lines = []
    for index in range(count):
        half = index % 2
        words = [WORDS[half * 5 + (index * step) % 5] for step in (1, 3, 7, 11)]
        lines.append(
            f'{{"text": "{index} {" ".join(words)}", "label": "{"no" if half else "yes"}"}}'
        )
    return "\n".join(lines) + "\n"


class System:
    """Broker, API and worker under one home; `http` is a client with the first key."""

    def __init__(self, home: Path, database_url: str | None = None) -> None:
        self.home = home
        make_model_folder(home / "models" / "tiny", texts=[*WORDS, "0123456789"], hidden=64)
        self.socket = home / "b.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = os.environ | CADENCE | {
            "ATTUNE_HOME": str(home),
            "ATTUNE_BROKER_URL": f"redis+socket://{self.socket}",
            "ATTUNE_MODEL_DIRS": f'["{home / "models"}"]',
            "ATTUNE_HUB": "false",
            "ATTUNE_PREDICT": "true",
            "OMP_NUM_THREADS": "1",
            "SYSTEM_UNDER_TEST": str(home),
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        settings = Settings(home=home)
        if database_url is not None:
            self.environment["ATTUNE_DATABASE_URL"] = database_url
            settings = Settings(home=home, database_url=SecretStr(database_url))
        upgrade(settings.resolved_database_url)
        self.database = Database(settings.resolved_database_url)
        with self.database.transaction() as session:
            tenant = ensure_tenant(session, "default")
            key = create_key(session, settings.pepper, tenant.id, name="test", scopes=["all"])
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {key.secret}"},
            timeout=30.0,
        )

    def start(self, name: str) -> None:
        """Start one of `broker`, `api`, `worker`."""
        commands = {
            "broker": [
                str(find_server()), "--port", "0", "--unixsocket", str(self.socket),
                "--appendonly", "yes", "--dir", str(self.home), "--save", "",
            ],
            "api": [sys.executable, "-m", "app.cli", "serve", "--port", str(self.port)],
            "worker": [sys.executable, "-m", "workers"],
        }  # fmt: skip
        log = (self.home / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            commands[name], env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        if name == "api":
            self.wait(self._is_ready, "the API to be ready")

    def kill(self, name: str) -> None:
        """SIGKILL one process; what hangs off it is on its own."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def trainers(self) -> list[psutil.Process]:
        """Return the trainers alive under this home's worker, or orphaned by it."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command = process.info["cmdline"] or []
            if "workers.trainer" in command and self._owns(process):
                found.append(process)
        return found

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return str(self.home) in process.environ().get("SYSTEM_UNDER_TEST", "")
        except psutil.Error:
            return False

    def submit(self, file_id: str, **runtime: Any) -> str:
        """Submit a job that takes some seconds and leaves a checkpoint every 25 steps."""
        answer = self.http.post(
            "/v1/jobs",
            json={
                "kind": "fine_tune",
                "model": "tiny",
                "task": "text-classification",
                "data": {"train": file_id},
                "optimization": {"epochs": 10, "batch_size": 16, "learning_rate": 1e-3},
                "runtime": {"evaluate_every": 50, "checkpoint_every": 25, "seeds": 1, **runtime},
            },
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def upload(self, count: int = 600) -> str:
        """Upload sentences and return the file's id."""
        answer = self.http.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", rows(count))}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job."""
        return self.http.get(f"/v1/jobs/{job_id}").json()

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's whole history."""
        return self.http.get(f"/v1/jobs/{job_id}/events", params={"limit": 1000}).json()["data"]

    def wait_for_checkpoint(self, job_id: str) -> None:
        """Wait until the job is in the middle of its training, with a checkpoint behind it."""
        self.wait(
            lambda: (
                self.job(job_id)["last_checkpoint_id"] is not None
                and self.job(job_id)["state"] == "running"
            ),
            "a first checkpoint",
        )

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        """Wait for a terminal state and return the job."""
        ends = {"succeeded", "failed", "cancelled"}
        self.wait(lambda: self.job(job_id)["state"] in ends, "the end of the job")
        return self.job(job_id)

    def weights(self, job: dict[str, Any]) -> str:
        """Return the SHA-256 of a finished job's weights."""
        files = self.http.get(f"/v1/models/{job['model_id']}/files").json()["data"]
        return next(f["sha256"] for f in files if f["name"] == "model.safetensors")

    def series(self, job_id: str) -> dict[str, Any]:
        """Return the metric series that do not measure time or memory."""
        data = self.http.get(f"/v1/jobs/{job_id}/metrics").json()["data"]
        measured = ("per_s", "memory/")
        return {s["name"]: s["points"] for s in data if not any(m in s["name"] for m in measured)}

    def wait(self, is_done: Callable[[], bool], what: str) -> None:
        """Wait for something; say what and show the logs when it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if is_done():
                return
            time.sleep(0.1)
        logs = "\n".join(
            f"--- {p.name}\n{p.read_text(errors='replace')[-3000:]}"
            for p in self.home.glob("*.log")
        )
        message = f"waited {PATIENCE_S} s for {what}\n{logs}"
        raise AssertionError(message)

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> None:
        """Kill whatever is left."""
        for process in self.processes.values():
            children = psutil.Process(process.pid).children(recursive=True)
            for victim in [*children, process]:
                try:
                    victim.send_signal(signal.SIGKILL)
                except (psutil.NoSuchProcess, ProcessLookupError):
                    continue
            process.wait()
        self.http.close()
        self.database.dispose()


@contextmanager
def running(home: Path, database_url: str | None = None) -> Generator[System]:
    """Start everything under `home`, on SQLite unless a database is named."""
    system = System(home, database_url)
    try:
        for name in ("broker", "api", "worker"):
            system.start(name)
        yield system
    finally:
        system.stop()
