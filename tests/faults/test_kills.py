"""`kill -9` of each process in the middle of a training: the job ends once, with the same weights."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psutil
import pytest

from tests.faults.system import System, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[System]:
    # A socket's path must be short.
    with running(tmp_path_factory.mktemp("s")) as system:
        yield system


@pytest.fixture(scope="module")
def undisturbed(system: System) -> tuple[str, str, dict[str, Any]]:
    """Return the file, and the weights and metric series of a run that nobody touched."""
    file_id = system.upload()
    job = system.wait_for_end(system.submit(file_id))
    assert job["state"] == "succeeded", job["error"]
    return file_id, system.weights(job), system.series(job["id"])


def finish(
    system: System, job_id: str, undisturbed: tuple[str, str, dict[str, Any]]
) -> dict[str, Any]:
    """Wait for the job and check everything that must be as if nothing had happened."""
    job = system.wait_for_end(job_id)
    assert job["state"] == "succeeded", job["error"]
    _, weights, series = undisturbed
    assert system.weights(job) == weights
    assert system.series(job_id) == series
    events = system.events(job_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    states = [event["data"]["state"] for event in events if event["type"] == "state"]
    assert states.count("succeeded") == 1
    assert states[-1] == "succeeded"
    return job


def runs(system: System, job_id: str) -> list[dict[str, Any]]:
    return system.http.get(f"/v1/jobs/{job_id}/runs", params={"order": "asc"}).json()["data"]


def test_the_trainer(system: System, undisturbed: tuple[str, str, dict[str, Any]]) -> None:
    job_id = system.submit(undisturbed[0])
    for _ in range(2):
        system.wait_for_checkpoint(job_id)
        for trainer in system.trainers():
            trainer.kill()
        system.wait(lambda: system.job(job_id)["state"] == "queued" or
                    system.job(job_id)["runs"] > 1, "the crash to be noticed")  # fmt: skip
    finish(system, job_id, undisturbed)
    attempts = runs(system, job_id)
    assert attempts[0]["outcome"] == "crashed"
    assert attempts[-1]["outcome"] == "succeeded"
    assert attempts[-1]["resumed_from_step"] >= 25


def test_the_worker(system: System, undisturbed: tuple[str, str, dict[str, Any]]) -> None:
    job_id = system.submit(undisturbed[0])
    system.wait_for_checkpoint(job_id)
    tree = psutil.Process(system.processes["worker"].pid).children(recursive=True)
    assert any("workers.trainer" in child.cmdline() for child in tree)
    system.kill("worker")
    _, alive = psutil.wait_procs(tree, timeout=20)
    assert alive == [], "nothing of a killed worker may live on"
    system.start("worker")
    finish(system, job_id, undisturbed)
    attempts = runs(system, job_id)
    assert [attempt["outcome"] for attempt in attempts] == ["worker_lost", "succeeded"]
    assert attempts[-1]["resumed_from_step"] >= 25


def test_the_api(system: System, undisturbed: tuple[str, str, dict[str, Any]]) -> None:
    job_id = system.submit(undisturbed[0])
    system.wait_for_checkpoint(job_id)
    system.kill("api")
    time.sleep(1.0)
    system.start("api")
    finish(system, job_id, undisturbed)
    assert len(runs(system, job_id)) == 1, "a training does not need the API"


def test_the_broker(system: System, undisturbed: tuple[str, str, dict[str, Any]]) -> None:
    job_id = system.submit(undisturbed[0])
    system.wait_for_checkpoint(job_id)
    system.kill("broker")
    while_down = system.submit(undisturbed[0])
    system.start("broker")
    finish(system, job_id, undisturbed)
    finish(system, while_down, undisturbed)


def test_a_broker_that_comes_back_empty(
    system: System, undisturbed: tuple[str, str, dict[str, Any]]
) -> None:
    system.kill("worker")
    job_id = system.submit(undisturbed[0])
    system.wait(lambda: not pending_hints(system), "the hint to be delivered")
    system.kill("broker")
    for path in system.home.glob("appendonlydir/*"):
        path.unlink()
    system.start("broker")
    system.start("worker")
    finish(system, job_id, undisturbed)


def test_an_acknowledged_cancel_wins(
    system: System, undisturbed: tuple[str, str, dict[str, Any]]
) -> None:
    job_id = system.submit(undisturbed[0])
    system.wait_for_checkpoint(job_id)
    answer = system.http.post(f"/v1/jobs/{job_id}/cancel").json()
    assert answer["state"] in {"cancelling", "cancelled"}
    assert system.wait_for_end(job_id)["state"] == "cancelled"
    assert system.job(job_id)["model_id"] is None


def test_a_worker_that_is_told_to_stop_gives_its_job_back(
    system: System, undisturbed: tuple[str, str, dict[str, Any]]
) -> None:
    job_id = system.submit(undisturbed[0])
    system.wait_for_checkpoint(job_id)
    worker = system.processes.pop("worker")
    worker.terminate()
    assert worker.wait(timeout=60) == 0
    assert system.job(job_id)["state"] == "queued"
    system.start("worker")
    finish(system, job_id, undisturbed)
    assert [attempt["outcome"] for attempt in runs(system, job_id)] == ["drained", "succeeded"]


def test_a_frozen_worker_harms_nobody(
    system: System, undisturbed: tuple[str, str, dict[str, Any]]
) -> None:
    job_id = system.submit(undisturbed[0])
    system.wait_for_checkpoint(job_id)
    main = psutil.Process(system.processes["worker"].pid)
    frozen = [
        main,
        *(c for c in main.children(recursive=True) if "workers.trainer" not in c.cmdline()),
    ]
    trainers = [c for c in main.children(recursive=True) if "workers.trainer" in c.cmdline()]
    for process in frozen:
        process.suspend()
    # Its frozen parent cannot reap it, so being a zombie is as dead as it gets.
    system.wait(lambda: all(t.status() == psutil.STATUS_ZOMBIE for t in trainers),
                "the trainer to stop by itself, as nobody renews its lease")  # fmt: skip
    system.wait(lambda: system.job(job_id)["state"] == "queued", "the lease to run out")
    for process in frozen:
        process.resume()
    finish(system, job_id, undisturbed)


def pending_hints(system: System) -> bool:
    text = system.http.get("/metrics").text
    line = next(line for line in text.splitlines() if line.startswith("attune_outbox_pending "))
    return float(line.split()[1]) > 0
