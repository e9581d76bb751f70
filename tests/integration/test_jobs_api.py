"""`/v1/jobs` without a worker: what is accepted, what is refused and why, lists, history, cancel."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest

from app.jobs import lifecycle, recording
from app.jobs.service import JobService
from app.jobs.tables import Checkpoint
from app.kit.db import database_now
from app.kit.ids import new_id
from app.spec.job import parse_spec
from tests.published import published
from tests.served import Served, served
from tests.servers import DATABASES, postgres
from tests.tiny import make_model_folder

ROWS = "text,label\n" + "".join(f"a sentence about {n},{n % 2}\n" for n in range(40))


@pytest.fixture(scope="module", params=DATABASES)
def api(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    make_model_folder(folder / "bases" / "tiny")
    settings = {"model_dirs": [folder / "bases"], "max_queued_jobs": 50}
    with contextlib.ExitStack() as stack:
        if request.param == "postgresql":
            settings["database_url"] = stack.enter_context(postgres())
        yield stack.enter_context(served(folder / "home", **settings))


@pytest.fixture(scope="module")
def file_id(api: Served) -> str:
    return upload(api, ROWS)


@pytest.fixture(autouse=True)
def empty_queue(api: Served):
    yield
    for job in api.client.get("/v1/jobs", params={"state": "queued", "limit": 100}).json()["data"]:
        api.client.post(f"/v1/jobs/{job['id']}/cancel")


def upload(api: Served, content: str | bytes, name: str = "rows.csv") -> str:
    answer = api.client.post("/v1/files", files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def spec(file_id: str, **fields) -> dict:
    data = {"train": file_id} | fields.pop("data", {})
    made = {"kind": "fine_tune", "model": "tiny", "task": "text-classification", "data": data}
    return made | fields


def submit(api: Served, file_id: str, headers=None, **fields) -> dict:
    answer = api.client.post("/v1/jobs", json=spec(file_id, **fields), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def refusal(api: Served, body: dict, route: str = "/v1/jobs", status: int = 400) -> dict:
    before = api.client.get("/v1/jobs").json()
    answer = api.client.post(route, json=body)
    assert answer.status_code == status, answer.text
    assert api.client.get("/v1/jobs").json() == before  # nothing half-written
    return answer.json()["error"]


def usable(check: dict) -> int:
    """Return how many rows a dry run would train or validate on."""
    return sum(check["data"][name]["usable"] for name in ("train", "validation"))


def test_a_job_is_accepted_with_its_history_and_its_place(api: Served, file_id: str):
    first = submit(api, file_id, metadata={"team": "a"})
    second = submit(api, file_id)
    assert (first["object"], first["state"], first["queue_position"]) == ("job", "queued", 0)
    assert second["queue_position"] == 1
    assert first["metadata"] == {"team": "a"}
    assert first["spec"]["optimization"]["learning_rate"] == "auto"
    found = api.client.get(f"/v1/jobs/{second['id']}").json()
    assert found == second
    events = api.client.get(f"/v1/jobs/{first['id']}/events").json()["data"]
    assert [(e["seq"], e["type"], e["data"]) for e in events] == [(1, "state", {"state": "queued"})]
    api.client.post(f"/v1/jobs/{first['id']}/cancel")
    assert api.client.get(f"/v1/jobs/{second['id']}").json()["queue_position"] == 0
    assert api.client.get(f"/v1/jobs/{first['id']}").json()["queue_position"] is None


def test_the_queue_is_hinted_soon(api: Served, file_id: str):
    job = submit(api, file_id)
    queue = api.services.queue
    for _ in range(200):
        if job["id"] in queue.sent:
            return
        threading.Event().wait(0.02)
    pytest.fail("no hint was sent within four seconds")


@pytest.mark.parametrize(
    ("change", "param", "code", "words"),
    [
        ({"oops": 1}, "oops", "invalid_spec", "unknown field"),
        ({"optimization": {"learning_rat": 1}}, "optimization.learning_rat", "invalid_spec",
         "unknown field"),
        ({"kind": "nothing"}, "kind", "invalid_spec", "fine_tune"),
        ({"task": "telepathy"}, "task", "invalid_spec", "text-classification"),
        ({"model": "nope"}, "model", "model_not_found", "tiny"),
        ({"model": "../../etc"}, "model", "model_not_found", "tiny"),
        ({"model": "ft:tiny:x:0000000000"}, "model", "model_not_found", "GET /v1/models"),
        ({"data": {"train": "file-" + "0" * 26}}, "data.train", "file_not_found", "POST /v1/files"),
        ({"data": {"train": "../x"}}, "data.train", "invalid_spec", "file-..."),
        ({"data": {"columns": {"text": "txt"}}}, "data.columns.text", "column_not_found",
         "['text', 'label']"),
        ({"data": {"columns": {"words": "text"}}}, "data.columns.words", "invalid_data", "label"),
        ({"metadata": {"a": "b" * 600}}, "metadata.a", "invalid_spec", "512"),
        ({"method": "lora", "transfer": "structure"}, "body", "invalid_spec", "method 'full'"),
        ({"method": {"kind": "lora", "rank": 0}}, "method.rank", "invalid_spec", "greater"),
        ({"model": "ckpt-" + "0" * 26}, "model", "model_not_found", "/checkpoints"),
        ({"model": {"kind": "nothing"}}, "model", "invalid_spec", "pretrained"),
        ({"method": "linear_probe", "transfer": {"kind": "features", "models": ["nope"]}},
         "transfer.models.0", "model_not_found", "tiny"),
        ({"transfer": {"kind": "features", "models": ["tiny"]}}, "body", "invalid_spec",
         "method 'linear_probe'"),
        ({"method": {"kind": "auto", "candidates": ["full"]}}, "method.candidates",
         "invalid_spec", "at least 2"),
        ({"method": {"kind": "auto", "budget": 0}}, "method.budget", "invalid_spec", "greater than 0"),
        ({"runtime": {"seeds": 0}}, "runtime.seeds", "invalid_spec", "greater than or equal to 1"),
        ({"suffix": "a/b"}, "suffix", "invalid_spec", "pattern"),
    ],
)  # fmt: skip
def test_wrong_specs_name_the_field_and_what_would_be_right(
    api: Served, file_id: str, change, param, code, words
):
    error = refusal(api, spec(file_id, **change))
    assert (error["param"], error["code"]) == (param, code)
    assert words in error["message"]


def test_a_checkpoint_of_a_finished_job_is_a_model(api: Served, file_id: str):
    job = submit(api, file_id)
    with api.database.transaction() as session:
        claim = lifecycle.claim_next(session, "w", 30.0)
        assert claim is not None
        row = Checkpoint(
            id=new_id("ckpt"), tenant_id=claim.tenant_id, job_id=claim.job_id, epoch=claim.epoch, step=3,
            folder=f"runs/{job['id']}/e0001/checkpoints/step-00000003", manifest_sha256="0" * 64,
            bytes=1, metrics={}, is_best=True, state="committed", created_at=database_now(session),
        )  # fmt: skip
        recording.add_checkpoint(session, claim, row)
        checkpoint_id = row.id
    error = refusal(api, spec(file_id, model=checkpoint_id))
    assert (error["param"], error["code"]) == ("model", "job_not_finished")
    assert job["id"] in error["message"]
    with api.database.transaction() as session:
        lifecycle.fail(session, claim, {"message": "no", "code": "x"})
    started = submit(api, file_id, model=checkpoint_id)
    assert started["model"] == checkpoint_id
    other = api.client.post(
        "/v1/jobs", json=spec(file_id, model=checkpoint_id), headers=api.headers(tenant=1)
    )
    assert other.status_code == 400, "another tenant's checkpoint looks like none"


def test_data_that_cannot_train_is_refused_at_once(api: Served):
    one = upload(api, "text,label\n" + "words,same\n" * 30)
    error = refusal(api, spec(one))
    assert (error["param"], error["code"]) == ("data.train", "one_label")
    assert "only the label 'same'" in error["message"]
    headless = upload(api, "words,mood\n" + "a b c,good\n" * 5)
    error = refusal(api, spec(headless))
    assert error["code"] == "column_not_found"
    assert error["details"]["found"] == ["words", "mood"]


def test_a_check_resolves_everything_and_queues_nothing(api: Served, file_id: str):
    before = api.client.get("/v1/jobs").json()
    check = api.client.post("/v1/jobs/check", json=spec(file_id)).json()
    assert "auto" not in json.dumps(check["spec"]["optimization"])
    assert check["spec"]["task"]["labels"] == ["0", "1"]
    assert check["estimate"]["steps"] > 0
    assert usable(check) == 40
    assert api.client.get("/v1/jobs").json() == before
    error = refusal(api, spec(file_id, model="nope"), "/v1/jobs/check")
    assert error["code"] == "model_not_found"


def test_a_check_of_a_network_that_is_made_for_the_job(api: Served, file_id: str):
    model = {"kind": "bilstm", "hidden_size": 10, "vocabulary_size": 1000, "embedding_size": 20}
    check = api.client.post("/v1/jobs/check", json=spec(file_id, model=model)).json()
    resolved = check["spec"]["optimization"]
    assert (resolved["learning_rate"], resolved["epochs"]) == (1e-3, 20)
    (said,) = [line for line in check["warnings"] if "parameters" in line]
    assert said == "the estimate assumes 22,560 parameters: the network is made when the job runs"
    wrong = spec(file_id, model={**model, "embeddings": "nope"})
    assert refusal(api, wrong, "/v1/jobs/check")["param"] == "model.embeddings"


def test_a_check_counts_a_methods_own_tokens(api: Served, file_id: str):
    length, longer = (
        api.client.post("/v1/jobs/check", json=spec(file_id, method=method)).json()["spec"][
            "optimization"
        ]["max_length"]
        for method in ("lora", {"kind": "prompt", "num_tokens": 16})
    )
    assert longer == length + 16


def test_a_check_says_when_the_model_does_not_know_the_language(api: Served, file_id: str):
    rows = "text,label\n" + "".join(f"很好的酒店{n},{n % 2}\n" for n in range(40))
    check = api.client.post("/v1/jobs/check", json=spec(upload(api, rows))).json()
    assert any("unknown to this model's tokenizer" in text for text in check["warnings"])
    check = api.client.post("/v1/jobs/check", json=spec(file_id)).json()
    assert not any("unknown to" in text for text in check["warnings"])


def test_the_same_key_gives_the_same_job(api: Served, file_id: str):
    headers = {"Idempotency-Key": "order-1"}
    first = submit(api, file_id, headers)
    again = api.client.post("/v1/jobs", json=spec(file_id), headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first["id"])
    assert again.headers["idempotent-replayed"] == "true"
    other = api.client.post("/v1/jobs", json=spec(file_id, suffix="b"), headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    for value in ("", "x" * 300, "a b"):
        bad = api.client.post("/v1/jobs", json=spec(file_id), headers={"Idempotency-Key": value})
        assert bad.json()["error"]["param"] == "Idempotency-Key"


def test_a_key_of_a_refused_request_can_be_used_again(api: Served, file_id: str):
    headers = {"Idempotency-Key": "order-2"}
    wrong = api.client.post("/v1/jobs", json=spec(file_id, model="nope"), headers=headers)
    assert wrong.status_code == 400
    assert submit(api, file_id, headers)["state"] == "queued"


def test_many_at_once_with_one_key_make_one_job(api: Served, file_id: str):
    ids: list[str] = []
    headers = {"Idempotency-Key": "order-3"}
    threads = [
        threading.Thread(target=lambda: ids.append(submit(api, file_id, headers)["id"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_file_is_not_deleted_under_a_submit(api: Served):
    file_id = upload(api, ROWS)
    answers: list[int] = []
    delete = threading.Thread(
        target=lambda: answers.append(api.client.delete(f"/v1/files/{file_id}").status_code)
    )
    with api.database.transaction() as session:
        JobService(session, api.tenants[0], api.settings).submit(parse_spec(spec(file_id)))
        delete.start()
        delete.join(0.5)
        assert delete.is_alive(), "the delete waits for the submit that has seen the file"
    delete.join(30)
    assert answers == [409]


def test_too_many_unfinished_jobs_are_refused(api: Served, file_id: str):
    for _ in range(50):
        submit(api, file_id)
    answer = api.client.post("/v1/jobs", json=spec(file_id))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_jobs")
    assert answer.headers["retry-after"]


def test_lists_are_paged_and_filtered(api: Served, file_id: str):
    ids = [submit(api, file_id)["id"] for _ in range(5)]
    api.client.post(f"/v1/jobs/{ids[2]}/cancel")
    seen: list[str] = []
    after = None
    while True:
        params = {"limit": 2, "state": "queued"} | ({"after": after} if after else {})
        page = api.client.get("/v1/jobs", params=params).json()
        seen += [job["id"] for job in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == [ids[4], ids[3], ids[1], ids[0]]
    oldest = api.client.get("/v1/jobs", params={"state": "queued", "order": "asc", "limit": 1})
    assert oldest.json()["data"][0]["id"] == ids[0]
    assert api.client.get("/v1/jobs", params={"kind": "other"}).json()["data"] == []
    error = api.client.get("/v1/jobs", params={"state": "asleep"}).json()["error"]
    assert error["param"] == "state"
    assert "queued" in error["message"]


def test_cancel_is_final_and_may_be_repeated(api: Served, file_id: str):
    job = submit(api, file_id)
    for _ in range(2):
        answer = api.client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert answer.json()["finished_at"] is not None
    events = api.client.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert [event["data"]["state"] for event in events] == ["queued", "cancelled"]


def test_a_finished_job_cannot_be_cancelled(api: Served, file_id: str):
    job = submit(api, file_id)
    with api.database.transaction() as session:
        claim = lifecycle.claim_next(session, "w", 30.0)
        assert claim is not None
        lifecycle.fail(session, claim, {"message": "no", "code": "x"})
    answer = api.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_finished")


def test_history_is_paged_and_streamed(api: Served, file_id: str):
    job = submit(api, file_id)
    api.client.post(f"/v1/jobs/{job['id']}/cancel")
    path = f"/v1/jobs/{job['id']}/events"
    page = api.client.get(path, params={"limit": 1}).json()
    assert page["has_more"]
    rest = api.client.get(path, params={"after": page["last_id"]}).json()["data"]
    assert [event["seq"] for event in rest] == [2]
    error = api.client.get(path, params={"after": "yesterday"}).json()["error"]
    assert error["param"] == "after"

    def streamed(**headers) -> list[tuple[str, dict]]:
        answer = api.client.get(path, headers={"Accept": "text/event-stream"} | headers)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = []
        for block in answer.text.replace("\r\n", "\n").strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            events.append((fields["event"], json.loads(fields["data"])))
        return events

    kinds = [kind for kind, _ in streamed()]
    assert kinds == ["state", "state", "progress", "end"]
    resumed = streamed(**{"Last-Event-ID": "1"})
    assert [data["seq"] for kind, data in resumed if kind == "state"] == [2]
    assert resumed[-1][1]["state"] == "cancelled"


def test_what_hangs_off_an_unknown_job_is_not_found(api: Served):
    for path in ("", "/events", "/metrics", "/checkpoints", "/runs"):
        answer = api.client.get(f"/v1/jobs/job-{'0' * 26}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_real_mess_is_accepted_with_a_report_or_refused_with_the_place(api: Served):
    """The files of `robustness/derived_mess`, each with one defect, through upload and check."""
    folder = published("robustness/derived_mess")

    def check(name: str, **data):
        made = api.client.post("/v1/files", files={"file": (name, (folder / name).read_bytes())})
        if made.status_code != 201:
            return made.json()["error"]
        body = spec(made.json()["id"], data=data)
        answer = api.client.post("/v1/jobs/check", json=body).json()
        return answer.get("error", answer)

    wrong_encoding = check("gb18030.csv")
    assert wrong_encoding["code"] == "wrong_encoding"
    assert wrong_encoding["details"]["row"] == 2
    assert check("single_class.jsonl")["code"] == "one_label"
    for name, rows in (("utf8_bom.csv", 120), ("crlf.csv", 120), ("huge_cell.csv", 121)):
        assert usable(check(name)) == rows, name
    for name, code, row, rows in (
        ("empty_rows.csv", "empty_text", 124, 120),
        ("mixed_types.jsonl", "empty_text", 21, 22),  # a number is a text, true is a label
        ("bad_line.jsonl", "invalid_json", 21, 21),
        ("ragged.csv", "ragged_row", 122, 121),  # an unclosed quote of the last row is closed
    ):
        error = check(name)
        assert (error["code"], error["details"]["row"]) == (code, row), name
        assert usable(check(name, on_bad_rows="skip")) == rows, name
