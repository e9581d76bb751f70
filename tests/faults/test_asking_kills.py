"""`kill -9` in the middle of a batch prediction: the next run goes on, and the file is the same."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from tests.faults.system import System, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]
ROWS = 6_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[System]:
    # A socket's path must be short.
    with running(tmp_path_factory.mktemp("s")) as system:
        yield system


@pytest.fixture(scope="module")
def model(system: System) -> str:
    """Return the id of a model that a training has made."""
    job_id = system.submit(system.upload(100), max_runtime_s=200)
    job = system.wait_for_end(job_id)
    assert job["state"] == "succeeded", job["error"]
    return job["model_id"]


@pytest.fixture(scope="module")
def file_id(system: System) -> str:
    return system.upload(ROWS)


@pytest.fixture(scope="module")
def undisturbed(system: System, model: str, file_id: str) -> bytes:
    """Return the answers of a run that nobody touched."""
    return answers(system, system.wait_for_end(submit(system, model, file_id)))


def submit(
    system: System, model: str, file_id: str, kind: str = "batch_predict", **more: Any
) -> str:
    body: dict[str, Any] = {"kind": kind, "model": model, "max_batch_tokens": 512}
    if kind == "batch_predict":
        body |= {"data": {"inputs": file_id}, "chunk_rows": 50}
    else:
        body |= {"data": {"test": file_id}}
    answer = system.http.post("/v1/jobs", json=body | more)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def answers(system: System, job: dict[str, Any]) -> bytes:
    assert job["state"] == "succeeded", job["error"]
    (file_id,) = job["result_files"]
    answer = system.http.get(f"/v1/files/{file_id}/content")
    assert answer.status_code == 200
    return answer.content


def outcomes(system: System, job_id: str) -> list[tuple[str, int | None]]:
    runs = system.http.get(f"/v1/jobs/{job_id}/runs", params={"order": "asc"}).json()["data"]
    return [(run["outcome"], run["resumed_from_step"]) for run in runs]


def test_every_row_is_answered_in_its_place(undisturbed: bytes) -> None:
    lines = [json.loads(line) for line in undisturbed.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, ROWS + 1))
    assert all(line["answer"]["label"] in {"yes", "no"} for line in lines)


def test_the_trainer_is_killed(
    system: System, model: str, file_id: str, undisturbed: bytes
) -> None:
    job_id = submit(system, model, file_id)
    system.wait_for_checkpoint(job_id)
    for trainer in system.trainers():
        trainer.kill()
    assert answers(system, system.wait_for_end(job_id)) == undisturbed
    (first, _), (last, resumed) = outcomes(system, job_id)
    assert (first, last) == ("crashed", "succeeded")
    assert resumed is not None
    assert resumed >= 200


def test_the_worker_is_killed(system: System, model: str, file_id: str, undisturbed: bytes) -> None:
    job_id = submit(system, model, file_id)
    system.wait_for_checkpoint(job_id)
    system.kill("worker")
    system.start("worker")
    job = system.wait_for_end(job_id)
    assert answers(system, job) == undisturbed
    assert outcomes(system, job_id)[-1][1] is not None
    events = system.events(job_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [e["data"]["state"] for e in events if e["type"] == "state"].count("succeeded") == 1


def test_the_worker_is_told_to_stop(
    system: System, model: str, file_id: str, undisturbed: bytes
) -> None:
    job_id = submit(system, model, file_id)
    system.wait_for_checkpoint(job_id)
    worker = system.processes.pop("worker")
    worker.terminate()
    assert worker.wait(timeout=60) == 0
    system.start("worker")
    assert answers(system, system.wait_for_end(job_id)) == undisturbed
    assert [outcome for outcome, _ in outcomes(system, job_id)] == ["drained", "succeeded"]


def test_a_cancel_leaves_no_file(system: System, model: str, file_id: str) -> None:
    before = system.http.get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    job_id = submit(system, model, file_id)
    system.wait_for_checkpoint(job_id)
    system.http.post(f"/v1/jobs/{job_id}/cancel")
    job = system.wait_for_end(job_id)
    assert job["state"] == "cancelled"
    assert job["result_files"] == []
    after = system.http.get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    assert after == before


def test_a_deadline_ends_it(system: System, model: str, file_id: str) -> None:
    job_id = submit(system, model, file_id, runtime={"max_runtime_s": 0.5})
    job = system.wait_for_end(job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "deadline_exceeded")


def test_an_evaluation_whose_trainer_is_killed(system: System, model: str, file_id: str) -> None:
    undisturbed = system.wait_for_end(submit(system, model, file_id, "evaluate"))
    assert undisturbed["state"] == "succeeded", undisturbed["error"]
    job_id = submit(system, model, file_id, "evaluate")
    system.wait(lambda: system.job(job_id)["progress"] is not None, "the evaluation to begin")
    for trainer in system.trainers():
        trainer.kill()
    job = system.wait_for_end(job_id)
    assert job["state"] == "succeeded", job["error"]
    assert job["report"] == undisturbed["report"]
    assert [outcome for outcome, _ in outcomes(system, job_id)] == ["crashed", "succeeded"]


def test_nothing_is_left_over(system: System) -> None:
    known = {
        file["id"] for file in system.http.get("/v1/files", params={"limit": 100}).json()["data"]
    }
    stored = {path.name for path in (system.home / "store" / "files").glob("file-*")}
    assert stored == known
