"""Pretraining over HTTP and from the command line: the dry run, what is refused at submission, uploads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.cli.exits import Failure
from app.cli.submit import Wish, build
from app.jobs import check_pretrain
from tests.served import Served, served
from tests.tiny import make_model_folder

TEXTS = "".join(f"a sentence about number {n}\n" for n in range(200))
ROWS = "text,label\n" + "".join(f"a sentence about {n},{n % 2}\n" for n in range(40))
MADE = {"kind": "bert", "hidden_size": 64, "num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    make_model_folder(folder / "bases" / "tiny")
    with served(folder / "home", model_dirs=[folder / "bases"]) as api:
        yield api


def upload(api: Served, content: str | bytes, name: str) -> str:
    answer = api.client.post("/v1/files", files={"file": (name, content)})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def corpus(api: Served) -> str:
    return upload(api, TEXTS, "corpus.txt")


def spec(corpus: str, **fields) -> dict:
    made = {"kind": "pretrain", "model": MADE, "objective": "masked_lm"}
    return made | {"data": {"train": corpus}} | fields


def test_a_job_is_accepted(api: Served, corpus: str):
    labelled = upload(api, ROWS, "rows.csv")
    body = spec(corpus, probe={"data": {"train": labelled}}, suffix="mine")
    answer = api.client.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["kind"], job["model"]) == ("pretrain", "bert")
    for file_id in (corpus, labelled):
        assert api.client.delete(f"/v1/files/{file_id}").json()["error"]["code"] == "file_in_use"
    api.client.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"objective": {"kind": "causal_lm"}}, "body", "gpt2, llama"),
        ({"objective": {"kind": "masked_lm", "rate": 1.5}}, "objective.rate", "less than 1"),
        ({"objective": "next_sentence"}, "objective", "causal_lm, masked_lm, span_corruption"),
        ({"model": {"kind": "mamba"}}, "model", "bert, gpt2, llama, roberta, t5"),
        ({"model": {"kind": "bert", "hidden_size": 100, "num_heads": 3}}, "model", "multiple"),
        ({"model": "nope"}, "model", "tiny"),
        ({"model": "tiny", "tokenizer": {"kind": "bpe"}}, "body", "leave it out"),
        ({"tokenizer": {"kind": "bpe", "vocabulary_size": 3}}, "tokenizer", "32"),
        ({"tokenizer": "nope"}, "tokenizer", "tiny"),
        ({"method": "linear_probe"}, "body", "method"),
        ({"optimization": {"label_smoothing": 0.1}}, "body", "label_smoothing"),
        ({"runtime": {"seeds": 3}}, "body", "one seed"),
        ({"data": {"train": "file-nope"}}, "data.train", "upload"),
        ({"data": {"train": ["file-" + "0" * 26]}}, "data.train.0", "no file"),
    ],
)
def test_wrong_specs_name_the_field(api: Served, corpus: str, change, param, words):
    answer = api.client.post("/v1/jobs", json=spec(corpus, **change))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].startswith(param)
    assert words in error["message"]


def test_a_file_without_a_column_of_texts_is_refused_at_once(api: Served):
    file_id = upload(api, "a,b\n1,2\n3,4\n", "table.csv")
    error = api.client.post("/v1/jobs", json=spec(file_id)).json()["error"]
    assert (error["param"], error["code"]) == ("data.columns.text", "column_not_found")
    assert "table.csv" in error["message"]


@pytest.mark.parametrize("model", [MADE, "tiny"])
def test_the_dry_run_resolves_counts_and_estimates(api: Served, corpus: str, model):
    labelled = upload(api, ROWS, "rows.csv")
    body = spec(corpus, model=model, probe={"data": {"train": labelled}})
    answer = api.client.post("/v1/jobs/check", json=body)
    assert answer.status_code == 200, answer.text
    check = answer.json()
    assert "auto" not in json.dumps([check["spec"]["optimization"], check["spec"]["runtime"]])
    assert check["data"]["train"]["statistics"]["documents"] == 200
    assert (
        check["data"]["probe.train"]["usable"] + check["data"]["probe.validation"]["usable"] == 40
    )
    assert check["estimate"]["steps"] > 0
    assert check["estimate"]["tokens"] > 200
    rate = check["spec"]["optimization"]["learning_rate"]
    assert rate == (1e-3 if model == MADE else 1e-4)
    assert any("estimated" in warning for warning in check["warnings"]) is (model == MADE)


def test_the_dry_run_says_what_is_wrong_with_a_corpus(api: Served):
    file_id = upload(
        api, json.dumps({"text": "a"}) + "\n" + json.dumps({"text": ""}) + "\n", "c.jsonl"
    )
    error = api.client.post("/v1/jobs/check", json=spec(file_id)).json()["error"]
    assert (error["param"], error["code"]) == ("data.train", "empty_text")
    assert "c.jsonl, row 2" in error["message"]


def test_the_dry_run_of_a_large_corpus_reads_its_first_part(api: Served, corpus: str, monkeypatch):
    whole = api.client.post("/v1/jobs/check", json=spec(corpus)).json()
    monkeypatch.setattr(check_pretrain, "MAX_BYTES", 2_000)
    part = api.client.post("/v1/jobs/check", json=spec(corpus)).json()
    assert part["data"]["train"]["statistics"]["documents"] < 60
    assert any("only the first" in warning for warning in part["warnings"])
    steps = [check["estimate"]["tokens"] / check["estimate"]["steps"] for check in (part, whole)]
    assert steps[0] == pytest.approx(steps[1], rel=0.1)


class Uploads:
    """A client that notes what it was given."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def upload(self, path: Path) -> dict[str, str]:
        self.names.append(path.name)
        return {"id": "file-" + chr(ord("a") + len(self.names)) * 26}


def test_the_command_line_uploads_every_file_that_a_spec_names(tmp_path):
    for name in ("one.txt", "two.txt", "few.jsonl"):
        (tmp_path / name).write_text("x\n")
    path = tmp_path / "spec.json"
    body = {"kind": "pretrain", "data": {"train": ["one.txt", "two.txt"]},
            "probe": {"data": {"train": "few.jsonl"}}}  # fmt: skip
    path.write_text(json.dumps(body))
    client = Uploads()
    here = SimpleNamespace(client=client, out=SimpleNamespace(say=lambda *_, **__: None))
    made = build(here, Wish(), columns=[], sets=[], file=path)
    assert client.names == ["one.txt", "two.txt", "few.jsonl"]
    assert made["data"]["train"] == ["file-" + "b" * 26, "file-" + "c" * 26]
    assert made["probe"]["data"]["train"] == "file-" + "d" * 26
    path.write_text(json.dumps(body | {"probe": {"data": {"train": "gone.jsonl"}}}))
    with pytest.raises(Failure, match=r"probe\.data\.train"):
        build(here, Wish(), columns=[], sets=[], file=path)
