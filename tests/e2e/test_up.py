"""`attune up` as people run it: real children, real signals, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from app.cli.exits import Code
from tests.tiny import make_model_folder
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

ATTUNE = [sys.executable, "-P", "-m", "app.cli"]
READY_S = 120.0
ROWS = [
    {"text": text, "label": label}
    for n in range(30)
    for text, label in (
        (f"the film was a joy {n}", "good"),
        (f"a dull plot and worse acting {n}", "bad"),
    )
]


@dataclass
class Up:
    """One `attune up` and what it said."""

    home: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    def url(self) -> str:
        return json.loads((self.home / "credentials.json").read_text())["url"]

    def key(self) -> str:
        return json.loads((self.home / "credentials.json").read_text())["key"]

    def get(self, path: str, key: str | None = None) -> httpx2.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx2.get(self.url() + path, headers=headers, timeout=30.0)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def said(self) -> str:
        return self.log.read_text()

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ATTUNE, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip


def environment_for(home: Path, models: Path) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("ATTUNE_")} | {
        "ATTUNE_HOME": str(home),
        "ATTUNE_MODEL_DIRS": json.dumps([str(models)]),
        "ATTUNE_HUB": "false",
        "OMP_NUM_THREADS": "1",
    }


def start(folder: Path, *options: str) -> Up:
    models = folder / "models"
    if not models.exists():
        texts = [row["text"] for row in ROWS]
        make_model_folder(models / "tiny", texts=texts)
    home = folder / "home"
    environment = environment_for(home, models)
    log = folder / f"up-{len(list(folder.glob('up-*.log')))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*ATTUNE, "up", "--port", "0", *options],
            env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    up = Up(home, environment, process, log)

    def is_ready() -> bool:
        assert process.poll() is None, up.said()
        return "Attune is up at" in up.said()

    wait_until(is_ready, READY_S)
    return up


def gone(family: list[psutil.Process], timeout_s: float = 60.0) -> list[psutil.Process]:
    """Wait for the processes to end; return those that did not."""
    _, alive = psutil.wait_procs(family, timeout=timeout_s)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def end(up: Up, family: list[psutil.Process]) -> None:
    for process in family:
        if process.is_running():
            process.kill()
    if up.process.poll() is None:
        up.process.kill()
    up.process.wait()


@pytest.fixture
def fresh(tmp_path: Path) -> Generator[Up]:
    up = start(tmp_path)
    family = up.family()
    yield up
    end(up, family)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Up]:
    up = start(tmp_path_factory.mktemp("up"))
    family = up.family()
    yield up
    end(up, family)


# --- while it is up ---


def test_its_key_works_and_nothing_else_does(shared: Up):
    assert shared.get("/readyz").json()["status"] == "ok"
    assert shared.get("/v1/me", shared.key()).status_code == 200
    assert shared.get("/v1/me").status_code == 401
    assert (shared.home / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert shared.home.stat().st_mode & 0o777 == 0o700


def test_the_new_key_is_shown_once(shared: Up):
    assert shared.said().count(shared.key()) == 1
    logs = (shared.home / "logs").glob("*.log")
    assert not any(shared.key() in path.read_text() for path in logs)


def test_a_second_one_on_the_same_home_is_refused(shared: Up):
    done = shared.call("up", "--port", "0")
    assert done.returncode == Code.CONFLICT
    assert "already up" in done.stderr
    assert shared.url() in done.stderr


def test_a_port_that_is_taken_is_said(shared: Up, tmp_path: Path):
    port = shared.url().rpartition(":")[2]
    done = shared.call("up", "--home", str(tmp_path / "other"), "--port", port)
    assert done.returncode == Code.CONFLICT
    assert "--port 0" in done.stderr


def test_the_whole_journey_by_command_line(shared: Up, tmp_path: Path):
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    spec = tmp_path / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "model": "tiny",
                "task": "text-classification",
                "data": {"train": "train.jsonl"},
                "optimization": {"epochs": 1, "batch_size": 16},
            }
        )
    )
    checked = shared.call("check", "--spec", str(spec), "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["spec"]["optimization"]["learning_rate"] != "auto"

    done = shared.call(
        "jobs", "submit", "--spec", str(spec), "--suffix", "e2e", "--watch", "--json"
    )
    assert done.returncode == 0, done.stderr + done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    job = lines[-1]
    assert (job["object"], job["state"]) == ("job", "succeeded")
    assert next(e["seq"] for e in lines if e["object"] == "job.event") == 1

    model = job["model_id"]
    assert model.startswith("ft:")
    listed = shared.call("models", "list", "-q")
    assert listed.stdout.split() == [model]
    assert model in shared.call("models", "card", model).stdout
    predicted = shared.call("predict", model, "a joy", "a dull plot", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert len(predicted.stdout.splitlines()) == 2
    fetched = shared.call("models", "download", model, "--to", str(tmp_path / "model"))
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()
    history = shared.call("jobs", "events", job["id"])
    assert history.returncode == 0
    again = shared.call("jobs", "watch", job["id"], "-q")
    assert again.stdout.split() == [model]
    cancelled = shared.call("jobs", "cancel", job["id"])
    assert cancelled.returncode == Code.CONFLICT


def test_a_job_that_is_unknown(shared: Up):
    for verb in ("show", "watch", "cancel", "events"):
        done = shared.call("jobs", verb, "job-" + "0" * 26)
        assert done.returncode == Code.NOT_FOUND, verb
        assert "Traceback" not in done.stderr


def test_a_wrong_key_is_refused(shared: Up):
    done = shared.call("jobs", "list", "--url", shared.url(), "--key", "ak-wrong")
    assert done.returncode == Code.AUTHENTICATION
    assert "attune keys create" in done.stderr


def test_data_that_cannot_be_used_names_its_row(shared: Up, tmp_path: Path):
    data = tmp_path / "bad.jsonl"
    data.write_text(json.dumps(ROWS[0]) + "\n{broken\n")
    done = shared.call("files", "upload", str(data))
    told = done.stderr + done.stdout
    assert "2" in told
    assert "Traceback" not in told


def test_keys_come_and_go(shared: Up):
    made = shared.call("keys", "create", "--name", "reader", "--scope", "read-only", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert shared.get("/v1/me", key["key"]).status_code == 200
    assert shared.call("keys", "revoke", key["id"]).returncode == 0
    assert shared.get("/v1/me", key["key"]).status_code == 401
    local = shared.call("keys", "create", "--tenant", "another", "-q")
    assert shared.get("/v1/me", local.stdout.strip()).status_code == 200


def test_a_child_that_is_killed_comes_back(shared: Up):
    api = next(p for p in shared.family() if "serve" in p.cmdline())
    api.kill()
    assert shared.get("/v1/me", shared.key()).status_code == 200
    assert "api was killed by SIGKILL" in shared.said()


# --- how it ends ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything(fresh: Up, number: signal.Signals):
    family = fresh.family()
    assert len(family) >= 3
    fresh.process.send_signal(number)
    assert fresh.process.wait(timeout=120) == 0, fresh.said()
    assert gone(family) == []


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_a_kill_leaves_nothing_and_the_next_one_starts(fresh: Up):
    family = fresh.family()
    key = fresh.key()
    fresh.process.kill()
    assert gone(family) == []
    again = start(fresh.home.parent)
    family = again.family()
    try:
        assert again.key() == key
        assert again.get("/v1/me", key).status_code == 200
    finally:
        end(again, family)


def test_in_the_background_and_down(tmp_path: Path):
    models = tmp_path / "models"
    models.mkdir()
    up = Up(tmp_path / "home", environment_for(tmp_path / "home", models), None, tmp_path / "log")  # type: ignore[arg-type]
    done = up.call("up", "--detach", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert up.get("/readyz").status_code == 200
    assert up.key() in done.stdout
    assert up.key() not in (up.home / "logs" / "up.log").read_text()
    assert up.call("down").returncode == 0
    with pytest.raises(httpx2.ConnectError):
        up.get("/readyz")
    again = up.call("down")
    assert again.returncode == 0
    assert "nothing is up" in again.stderr
