"""The registry over HTTP: what is listed, what may be read, and what deleting leaves."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

import pytest

from app.jobs import lifecycle
from app.jobs.state import State
from app.jobs.tables import Job
from app.kit.db import database_now
from app.kit.ids import new_id
from app.models.card import model_card
from app.models.service import model_id_for
from tests.served import Served, served
from tests.tiny import make_model_folder

MODEL = "ft:all-MiniLM-L6-v2:banking:01jdb6m1v4"
BASE = "org/tiny-bert"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_model_folder(folder / "bases" / "tiny")
    make_model_folder(folder / "bases" / BASE)
    with served(folder / "home", model_dirs=[folder / "bases"]) as running:
        running.add_model(MODEL, labels=("card stolen", "transfer"))
        running.add_model("ft:tiny::second00000", tenant=1)
        yield running


def test_lists_only_the_tenants_models(api: Served):
    body = api.client.get("/v1/models").json()
    assert [model["id"] for model in body["data"]] == [MODEL]
    assert (body["object"], body["has_more"], body["last_id"]) == ("list", False, MODEL)
    model = body["data"][0]
    assert model["object"] == "model"
    assert (model["base"], model["task"]) == ("tiny", "text-classification")
    assert model["owned_by"] == api.tenants[0]
    assert model["metrics"] == {"validation/accuracy": 0.5}
    assert model["bytes"] > 1000
    assert isinstance(model["created"], int)


def test_pages_through_a_list(tmp_path):
    with served(tmp_path) as api:
        ids = [f"ft:tiny:n{number}:0000000000" for number in range(3)]
        for model_id in ids:
            api.add_model(model_id)
        first = api.client.get("/v1/models", params={"limit": 2, "order": "asc"}).json()
        assert first["has_more"]
        rest = api.client.get(
            "/v1/models", params={"after": first["last_id"], "order": "asc"}
        ).json()
        assert [model["id"] for model in first["data"] + rest["data"]] == ids


@pytest.mark.parametrize("encode", [str, lambda text: quote(text, safe="")], ids=["raw", "encoded"])
@pytest.mark.parametrize("model_id", [MODEL, BASE, "tiny"])
def test_ids_work_raw_and_encoded(api: Served, model_id, encode):
    answer = api.client.get(f"/v1/models/{encode(model_id)}")
    assert answer.status_code == 200
    assert answer.json()["id"] == model_id


@pytest.mark.parametrize("encode", [str, lambda text: quote(text, safe="")], ids=["raw", "encoded"])
@pytest.mark.parametrize("rest", ["/card", "/files", "/files/config.json"])
def test_longer_routes_win_over_the_id(api: Served, encode, rest):
    assert api.client.get(f"/v1/models/{encode(MODEL)}{rest}").status_code == 200


@pytest.mark.parametrize("path", ["", "/card", "/files", "/files/config.json"])
@pytest.mark.parametrize(
    "model_id", ["ft:tiny::second00000", "ft:nothing::0", "nothing", "../tiny"]
)
def test_another_tenants_model_looks_like_none(api: Served, path, model_id):
    answer = api.client.get(f"/v1/models/{quote(model_id, safe='')}{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_base_models(api: Served):
    data = api.client.get("/v1/base_models").json()["data"]
    (tiny,) = [model for model in data if model["id"] == "tiny"]
    assert tiny["object"] == "model"
    assert (tiny["kind"], tiny["architecture"]) == ("local", "bert")
    assert re.fullmatch("[0-9a-f]{64}", tiny["sha256"])


def test_card(api: Served):
    answer = api.client.get(f"/v1/models/{MODEL}/card")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.text.startswith("---\nlibrary_name: transformers\n")
    assert f"# {MODEL}\n" in answer.text
    assert "`card stolen`" in answer.text
    assert f"/v1/models/{MODEL}/predict" in answer.text


def test_files_are_the_ones_of_the_manifest(api: Served):
    files = api.client.get(f"/v1/models/{MODEL}/files").json()["data"]
    assert {"config.json", "model.safetensors", "attune.json"} <= {file["name"] for file in files}
    for file in files:
        content = api.client.get(f"/v1/models/{MODEL}/files/{file['name']}").content
        assert len(content) == file["bytes"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"]


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "nothing", "..%2F..%2Fattune.db", "%2Fetc%2Fpasswd", "./config.json%00"],
)
def test_no_other_file_is_given_out(api: Served, name):
    assert api.client.get(f"/v1/models/{MODEL}/files/{name}").status_code == 404


def test_deleting_removes_row_and_folder(api: Served):
    model_id = "ft:tiny:gone:0000000000"
    folder = api.add_model(model_id)
    assert folder.is_dir()
    answer = api.client.delete(f"/v1/models/{quote(model_id, safe='')}")
    assert answer.json() == {"id": model_id, "object": "model", "deleted": True}
    assert not folder.exists()
    assert api.client.get(f"/v1/models/{model_id}").status_code == 404
    assert api.client.delete(f"/v1/models/{model_id}").status_code == 404


@pytest.mark.parametrize(
    "names_it",
    [
        lambda model_id: {"model": model_id},
        lambda model_id: {"model": {"kind": "pretrained", "model": model_id}},
        lambda model_id: {
            "model": "tiny",
            "method": "linear_probe",
            "transfer": {"kind": "features", "models": [model_id]},
        },
    ],
    ids=["model", "pretrained", "features"],
)
def test_a_model_that_a_job_starts_from_is_kept(api: Served, names_it):
    model_id = f"ft:tiny:used:{new_id('x')[-10:]}"
    spec = {
        "kind": "fine_tune",
        "task": "text-classification",
        "data": {"train": "file-" + "0" * 26},
        **names_it(model_id),
    }
    folder = api.add_model(model_id)
    with api.database.transaction() as session:
        now = database_now(session)
        job = Job(
            id=new_id("job"), tenant_id=api.tenants[0], kind="fine_tune", spec=spec,
            spec_sha256="", state=State.QUEUED, created_at=now, run_after=now + 3600,
        )  # fmt: skip
        lifecycle.accept(session, job)
    answer = api.client.delete(f"/v1/models/{model_id}")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "model_in_use"
    assert folder.is_dir()
    assert api.client.get(f"/v1/models/{model_id}").status_code == 200


def test_deleting_needs_the_scope_and_the_tenant(api: Served):
    reader = api.headers(scopes=["models:read"])
    assert api.client.delete(f"/v1/models/{MODEL}", headers=reader).status_code == 403
    other = api.headers(tenant=1)
    assert api.client.delete(f"/v1/models/{MODEL}", headers=other).status_code == 404
    assert api.client.get(f"/v1/models/{MODEL}", headers=reader).status_code == 200


@pytest.mark.parametrize(
    ("base", "suffix", "expected"),
    [
        ("all-MiniLM-L6-v2", "banking", r"ft:all-MiniLM-L6-v2:banking:[0-9a-z]{10}"),
        ("org/name", None, r"ft:name::[0-9a-z]{10}"),
        ("ft:name:old:0123456789", "new", r"ft:name:new:[0-9a-z]{10}"),
        ("a b/c:d é", "x/y z", r"ft:c-d:x-y-z:[0-9a-z]{10}"),
        ("b" * 500, "s" * 500, r"ft:b+:s+:[0-9a-z]{10}"),
        ("///", None, r"ft:model::[0-9a-z]{10}"),
    ],
)
def test_ids_of_new_models(base, suffix, expected):
    made = model_id_for(base, suffix)
    assert re.fullmatch(expected, made)
    assert len(made) <= 160
    assert made != model_id_for(base, suffix)


def test_a_card_says_how_good_it_is_and_against_what():
    card = model_card({
        "model_id": MODEL, "base": "org/base", "revision": "abc123", "weights_sha256": "f" * 64,
        "task": {"kind": "text-classification", "problem": "single_label", "labels": ["a`b", "c"]},
        "resolved": {"method": {"kind": "full"}, "optimization": {"learning_rate": 2e-5}},
        "report": {
            "data": {"train": {"rows": 1200, "usable": 1190, "warnings": ["2 rows repeat"]},
                     "test": {"rows": 100, "usable": 99}},
            "primary_metric": "accuracy",
            "evaluation": {"test": {"metrics": {}, "intervals": {"accuracy": [0.9, 0.95]}}},
            "baselines": {
                "majority": {"test": {"metrics": {"accuracy": 0.51}}},
                "linear_probe": {"rows": 50, "test": {"metrics": {"accuracy": 0.8, "loss": 1.0},
                                                      "intervals": {"accuracy": [0.7, 0.9]}}},
            },
        },
        "metrics": {"test/accuracy": 0.91234},
        "environment": {"torch": "2.13"},
    })  # fmt: skip
    lines = card.splitlines()
    assert 'base_model: "org/base"' in lines
    assert 'pipeline_tag: "text-classification"' in lines
    assert "| accuracy | 0.9123 | 0.9 to 0.95 | test | 99 |" in lines
    assert "| always the commonest label | test accuracy | 0.51 | - |" in lines
    assert "| a linear probe on the frozen base | test accuracy | 0.8 | 0.7 to 0.9 |" in lines
    assert "| train | 1,200 | 1,190 |" in lines
    assert "- train: 2 rows repeat" in lines
    assert "2: `` a`b ``, `c`" in lines
    assert "| learning_rate | `2e-05` |" in lines
    assert "| torch | 2.13 |" in lines
    assert "abc123" in card
    assert "There was no test set" not in card


def test_a_card_of_no_facts_is_still_a_card():
    assert "# A finished model" in model_card({})
