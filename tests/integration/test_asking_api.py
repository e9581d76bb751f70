"""`evaluate` and `batch_predict` over HTTP without a worker: refusals, the dry run, publishing."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import LeaseLost, TrainingFailed
from app.jobs import lifecycle, recording
from app.jobs.lifecycle import Claim
from app.jobs.tables import Checkpoint
from app.kit.db import database_now
from app.kit.ids import new_id
from app.models.repository import ModelRepository
from app.store.layout import Layout
from tests.served import Served, served
from tests.servers import DATABASES, postgres
from tests.tiny import make_model_folder
from workers.assignment import build_assignment
from workers.protocol import DoneEvent, OutputFile
from workers.publish import publish_result

MODEL = "ft:judge"
ROWS = "".join(json.dumps({"text": f"film {n}", "label": "good"}) + "\n" for n in range(30))


@pytest.fixture(scope="module", params=DATABASES)
def api(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asking")
    make_model_folder(folder / "bases" / "plain")
    make_model_folder(folder / "bases" / "judge", ["bad", "good", "odd"])
    settings: dict[str, Any] = {"model_dirs": [folder / "bases"]}
    with contextlib.ExitStack() as stack:
        if request.param == "postgresql":
            settings["database_url"] = stack.enter_context(postgres())
        api = stack.enter_context(served(folder / "home", **settings))
        api.add_model(MODEL)
        yield api


@pytest.fixture(autouse=True)
def empty_queue(api: Served):
    yield
    for job in api.client.get("/v1/jobs", params={"state": "queued", "limit": 100}).json()["data"]:
        api.client.post(f"/v1/jobs/{job['id']}/cancel")


def upload(api: Served, content: str, name: str = "rows.jsonl") -> str:
    answer = api.client.post("/v1/files", files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def spec(api: Served, kind: str, content: str = ROWS, data: Any = None, **fields: Any) -> Any:
    name = "test" if kind == "evaluate" else "inputs"
    made = {"kind": kind, "model": MODEL, "data": {name: upload(api, content), **(data or {})}}
    return made | fields


def submit(api: Served, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.client.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def refusal(api: Served, body: dict[str, Any], route: str = "/v1/jobs") -> dict[str, Any]:
    answer = api.client.post(route, json=body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("kind", ["evaluate", "batch_predict"])
def test_a_job_that_makes_no_model_is_accepted(api, kind):
    job = submit(api, spec(api, kind))
    assert job["kind"] == kind
    assert job["model"] == MODEL
    assert job["model_id"] is None
    assert job["result_files"] == []
    assert "suffix" not in job["spec"]
    listed = api.client.get("/v1/jobs", params={"kind": kind}).json()["data"]
    assert job["id"] in [each["id"] for each in listed]


@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/jobs/check"])
@pytest.mark.parametrize(
    ("kind", "content", "data", "fields", "param", "code"),
    [
        ("evaluate", ROWS, {}, {"model": "ft:nope"}, "model", "model_not_found"),
        ("evaluate", ROWS, {}, {"model": "ckpt-" + "0" * 26}, "model", "model_not_found"),
        ("evaluate", ROWS, {}, {"model": "nope"}, "model", "model_not_found"),
        ("evaluate", ROWS, {}, {"model": "plain"}, "task", "task_missing"),
        ("evaluate", ROWS, {}, {"task": "fill-mask"}, "task", "model_does_not_fit"),
        ("evaluate", ROWS, {}, {"parameters": {"top_k": 1}}, "parameters", "parameters_not_possible"),
        ("evaluate", '{"text": "a"}\n', {}, {}, "data.columns.label", "column_not_found"),
        ("evaluate", ROWS, {"columns": {"text": "no"}}, {}, "data.columns.text", "column_not_found"),
        ("evaluate", ROWS, {"test": "file-" + "0" * 26}, {}, "data.test", "file_not_found"),
        ("batch_predict", '{"label": "a"}\n', {}, {}, "data.columns.text", "column_not_found"),
        ("batch_predict", ROWS, {"keep": ["no"]}, {}, "data.keep.0", "column_not_found"),
        ("batch_predict", ROWS, {}, {"parameters": {"top_k": "x"}}, "parameters.top_k", None),
        ("batch_predict", ROWS, {}, {"chunk_rows": 0}, "chunk_rows", None),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused(api, route, *, kind, content, data, fields, param, code):
    error = refusal(api, spec(api, kind, content, data, **fields), route)
    assert error["param"] == param
    assert code is None or error["code"] == code


def test_another_tenants_model_is_not_there(api):
    api.add_model("ft:theirs", tenant=1)
    assert refusal(api, spec(api, "evaluate", model="ft:theirs"))["code"] == "model_not_found"


def check(api: Served, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.client.post("/v1/jobs/check", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_dry_run_of_an_evaluation(api):
    found = check(api, spec(api, "evaluate"))
    assert found["data"]["test"]["usable"] == 30
    assert found["data"]["columns"] == {"text": "text", "label": "label"}
    assert found["spec"]["task"]["labels"] == ["bad", "good"]
    assert found["estimate"]["rows"] == 30
    assert found["estimate"]["tokens"] > 30
    assert found["estimate"]["seconds"] >= 0
    unknown = ROWS + '{"text": "a", "label": "awful"}\n'
    error = refusal(api, spec(api, "evaluate", unknown), "/v1/jobs/check")
    assert (error["code"], error["details"]["row"]) == ("unknown_label", 31)
    skipped = check(api, spec(api, "evaluate", unknown, {"on_bad_rows": "skip"}))
    assert skipped["data"]["test"]["usable"] == 30
    assert any("1 row is skipped" in warning for warning in skipped["warnings"])


def test_the_dry_run_of_an_evaluation_of_a_base_model(api):
    rows = ROWS + '{"text": "a", "label": "bad"}\n'
    found = check(api, spec(api, "evaluate", rows, model="judge", task="text-classification"))
    assert found["spec"]["task"]["labels"] == ["bad", "good", "odd"]
    error = refusal(
        api,
        spec(api, "evaluate", rows, model="plain", task="text-classification"),
        "/v1/jobs/check",
    )
    assert error["code"] == "model_does_not_fit"


def test_the_dry_run_of_predictions(api):
    content = '{"text": "a film", "id": 1}\n{"text": ""}\n{"text": "a dull film", "id": 3}\n'
    found = check(api, spec(api, "batch_predict", content))
    assert (found["data"]["rows"], found["data"]["usable"]) == (3, 2)
    assert found["data"]["problems"]["first"][0]["row"] == 2
    assert found["spec"]["chunk_rows"] == 256
    assert any("row 2" in warning for warning in found["warnings"])
    body = spec(api, "batch_predict", content, {"on_bad_rows": "fail"})
    assert refusal(api, body, "/v1/jobs/check")["details"]["row"] == 2


def test_what_a_queued_job_needs_is_not_deleted(api):
    body = spec(api, "batch_predict")
    submit(api, body)
    assert api.client.delete(f"/v1/models/{MODEL}").status_code == 409
    assert api.client.delete(f"/v1/files/{body['data']['inputs']}").status_code == 409


def claimed(api: Served, body: dict[str, Any]) -> Claim:
    job_id = submit(api, body)["id"]
    with api.database.transaction() as session:
        claim = lifecycle.claim_next(session, "w", 30.0)
    assert claim is not None
    assert claim.job_id == job_id
    return claim


def end(api: Served, claim: Claim) -> None:
    with api.database.transaction() as session:
        lifecycle.fail(session, claim, {"code": "x", "message": "over"})


def test_a_model_that_is_gone_when_the_job_runs_fails_it_with_a_reason(api):
    api.add_model("ft:gone")
    claim = claimed(api, spec(api, "evaluate", model="ft:gone"))
    with api.database.transaction() as session:
        models = ModelRepository(session, claim.tenant_id)
        session.delete(models.get("ft:gone"))
    layout = Layout(api.settings.store_dir)
    with api.database.read() as session, pytest.raises(TrainingFailed) as caught:
        build_assignment(session, claim, layout, api.settings)
    assert caught.value.error_code == "input_gone"
    assert "ft:gone" in caught.value.message
    end(api, claim)


class Output:
    """What a trainer leaves when it is done: a part on record, and the whole output."""

    def __init__(self, api: Served, claim: Claim) -> None:
        self.layout = Layout(api.settings.store_dir)
        run = self.layout.run(claim.job_id, claim.epoch)
        self.part = run / "checkpoints" / "step-00000030"
        self.part.mkdir(parents=True)
        self.path = run / "answers.jsonl"
        self.content = b'{"row": 1, "answer": {"label": "good"}}\n'
        self.path.write_bytes(self.content)
        with api.database.transaction() as session:
            recording.add_checkpoint(
                session, claim,
                Checkpoint(id=new_id("ckpt"), tenant_id=claim.tenant_id, job_id=claim.job_id,
                           epoch=claim.epoch, step=30, folder=self.layout.relative(self.part),
                           manifest_sha256="", bytes=1, metrics={}, is_best=False,
                           state="committed", created_at=database_now(session)),
            )  # fmt: skip
        self.done = DoneEvent(
            message="1 row answered",
            report={"rows": 1},
            outputs=[
                OutputFile(
                    path=self.path, filename="rows.answers.jsonl", purpose="batch_output",
                    bytes=len(self.content), sha256=hashlib.sha256(self.content).hexdigest(),
                )
            ],
        )  # fmt: skip

    def files(self) -> set[Path]:
        return set((self.layout.root / "files").glob("file-*"))


def write_to(api: Served):
    def write(work) -> None:
        with api.database.transaction() as session:
            work(session)

    return write


def test_the_output_becomes_a_file_when_the_job_has_succeeded(api):
    claim = claimed(api, spec(api, "batch_predict"))
    output = Output(api, claim)
    assert len(api.client.get(f"/v1/jobs/{claim.job_id}/checkpoints").json()["data"]) == 1
    publish_result(write_to(api), claim, output.done, output.layout)
    job = api.client.get(f"/v1/jobs/{claim.job_id}").json()
    assert job["state"] == "succeeded"
    assert job["model_id"] is None
    assert job["last_checkpoint_id"] is None
    (file_id,) = job["result_files"]
    assert job["report"] == {"rows": 1, "result_files": [file_id]}
    file = api.client.get(f"/v1/files/{file_id}").json()
    assert (file["purpose"], file["filename"]) == ("batch_output", "rows.answers.jsonl")
    assert file["sha256"] == output.done.outputs[0].sha256
    assert api.client.get(f"/v1/files/{file_id}/content").content == output.content
    listed = api.client.get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    assert file_id in [each["id"] for each in listed]
    assert api.client.get(f"/v1/files/{file_id}", headers=api.headers(1)).status_code == 404
    assert api.client.get(f"/v1/jobs/{claim.job_id}/checkpoints").json()["data"] == []
    assert not output.part.exists()
    last = api.client.get(f"/v1/jobs/{claim.job_id}/events").json()["data"][-1]
    assert last["data"] == {"state": "succeeded", "result_files": [file_id]}
    assert api.client.delete(f"/v1/files/{file_id}").status_code == 200


def test_a_run_that_has_lost_its_lease_publishes_nothing(api):
    claim = claimed(api, spec(api, "batch_predict"))
    output = Output(api, claim)
    before = output.files()
    stale = Claim(claim.job_id, claim.tenant_id, claim.epoch - 1, claim.run_id)
    with pytest.raises(LeaseLost):
        publish_result(write_to(api), stale, output.done, output.layout)
    assert output.files() == before
    assert output.part.exists(), "the parts are the next run's"
    assert api.client.get(f"/v1/jobs/{claim.job_id}").json()["state"] == "running"
    end(api, claim)


def test_a_cancel_that_came_first_wins(api):
    claim = claimed(api, spec(api, "batch_predict"))
    output = Output(api, claim)
    before = output.files()
    assert api.client.post(f"/v1/jobs/{claim.job_id}/cancel").json()["state"] == "cancelling"
    with pytest.raises(LeaseLost):
        publish_result(write_to(api), claim, output.done, output.layout)
    assert output.files() == before
    with api.database.transaction() as session:
        lifecycle.cancelled(session, claim)


def test_a_part_of_an_output_is_no_model(api):
    claim = claimed(api, spec(api, "batch_predict"))
    Output(api, claim)
    end(api, claim)
    (part,) = api.client.get(f"/v1/jobs/{claim.job_id}/checkpoints").json()["data"]
    error = refusal(api, spec(api, "evaluate", model=part["id"]))
    assert error["code"] == "model_not_found"
    assert "part of the output" in error["message"]
