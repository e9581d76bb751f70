"""The whole system on PostgreSQL: a job ends with the same weights whatever was killed on the way."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.faults.system import System, running
from tests.servers import postgres, postgres_binaries

pytestmark = [
    pytest.mark.faults,
    pytest.mark.postgres,
    pytest.mark.timeout(280),
    pytest.mark.skipif(postgres_binaries() is None, reason="no PostgreSQL server here"),
]


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[System]:
    with postgres() as url, running(tmp_path_factory.mktemp("p"), url) as system:
        yield system


def test_a_job_survives_its_trainer_and_its_worker(system: System) -> None:
    file_id = system.upload()
    undisturbed = system.wait_for_end(system.submit(file_id))
    assert undisturbed["state"] == "succeeded", undisturbed["error"]
    job_id = system.submit(file_id)
    system.wait_for_checkpoint(job_id)
    for trainer in system.trainers():
        trainer.kill()
    system.wait(lambda: system.job(job_id)["runs"] > 1, "the second run")
    system.wait(lambda: system.job(job_id)["phase"] == "training", "the second run to train")
    system.kill("worker")
    system.start("worker")
    job = system.wait_for_end(job_id)
    assert job["state"] == "succeeded", job["error"]
    assert system.weights(job) == system.weights(undisturbed)
    assert system.series(job_id) == system.series(undisturbed["id"])
    runs = system.http.get(f"/v1/jobs/{job_id}/runs", params={"order": "asc"}).json()["data"]
    assert [run["outcome"] for run in runs] == ["crashed", "worker_lost", "succeeded"]
    inputs = {"inputs": ["1 good fine great lovely", "2 dull sour"]}
    answers = [
        system.http.post(f"/v1/models/{each['model_id']}/predict", json=inputs).json()["data"]
        for each in (undisturbed, job)
    ]
    assert len(answers[0]) == 2
    assert answers[0] == answers[1]
