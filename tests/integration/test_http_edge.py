"""What surrounds every route: envelopes, limits, headers, and that no input ends in a 500."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from app.http.middleware import SECURITY_HEADERS
from tests.published import published
from tests.served import Served, served

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edge")
    with served(folder, predict=False, max_json_bytes=10_000, max_json_depth=20) as made:
        yield made


def error_of(answer, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    return error


def test_unknown_routes_and_methods(api: Served):
    error = error_of(api.client.get("/v1/nothing"), 404)
    assert "no route GET /v1/nothing" in error["message"]
    answer = api.client.put("/v1/jobs")
    assert "does not take PUT" in error_of(answer, 405)["message"]
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"", "body"), (b"{", "not valid JSON at character"), (b'{"a": 1,}', "character"),
     (b"[]", "JSON object"), (b"\xff\xfe", "body")],
)  # fmt: skip
def test_bodies_that_are_no_json_object(api: Served, body: bytes, words: str):
    error = error_of(api.client.post("/v1/jobs", content=body, headers=JSON), 400)
    assert error["param"] == "body"
    assert words in error["message"]


def test_deep_and_large_bodies_are_refused_before_they_are_parsed(api: Served):
    deep = b'{"a":' * 21 + b"1" + b"}" * 21
    assert error_of(api.client.post("/v1/jobs", content=deep, headers=JSON), 400)["code"] == (
        "json_too_deep"
    )
    quoted = json.dumps({"oops": "[" * 500}).encode()  # brackets in a string are no depth
    error = error_of(api.client.post("/v1/jobs", content=quoted, headers=JSON), 400)
    assert error["code"] == "invalid_spec"
    large = b'{"oops": "' + b"x" * 10_000 + b'"}'
    error_of(api.client.post("/v1/jobs", content=large, headers=JSON), 413)

    def chunks():  # no Content-Length
        yield from [b"[" * 1000] * 30

    assert api.client.post("/v1/jobs", content=chunks(), headers=JSON).status_code == 413


def test_wrong_queries_name_the_parameter(api: Served):
    for query, param in (
        ({"limit": 0}, "limit"),
        ({"order": "up"}, "order"),
        ({"limit": "x"}, "limit"),
    ):
        assert error_of(api.client.get("/v1/jobs", params=query), 400)["param"] == param
    error = error_of(api.client.get("/v1/jobs", params={"after": "job-nowhere"}), 400)
    assert error["param"] == "after"


def test_every_answer_carries_an_id_and_safe_headers(api: Served):
    for path in ("/healthz", "/v1/jobs", "/v1/nothing", "/v1/jobs/job-x"):
        answer = api.client.get(path)
        assert answer.headers["x-request-id"].startswith("req-")
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
    given = api.client.get("/healthz", headers={"X-Request-Id": "mine.1"})
    assert given.headers["x-request-id"] == "mine.1"
    forged = api.client.get("/healthz", headers={"X-Request-Id": "a b\tc"})
    assert forged.headers["x-request-id"].startswith("req-")


def test_the_documentation_needs_nobody_elses_server(api: Served):
    page = api.client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("<!doctype html>", "")
    assert "'self'" in page.headers["content-security-policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js", "favicon.png"):
        assert api.client.get(f"/static/{name}").status_code == 200
    assert api.client.get("/static/..%2Fdocs.py").status_code == 404


def test_strange_hosts_are_refused_where_hosts_are_named(tmp_path):
    with served(tmp_path, predict=False, allowed_hosts=["attune.example", "127.0.0.1"]) as made:
        for host, status in (("attune.example:8000", 200), ("127.0.0.1", 200), ("evil", 400)):
            answer = made.client.get("/healthz", headers={"Host": host})
            assert answer.status_code == status
        assert error_of(answer, 400)["code"] == "unknown_host"


def test_a_defect_is_a_500_without_its_traceback(api: Served, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("secret path /etc/attune")

    monkeypatch.setattr("app.jobs.endpoints.JobRepository", broken)
    client = TestClient(api.app, headers=api.client.headers, raise_server_exceptions=False)
    answer = client.get("/v1/jobs")
    assert error_of(answer, 500)["code"] == "internal_error"
    assert "secret" not in answer.text


def test_metrics_are_labelled_by_route_and_never_by_id(api: Served):
    api.client.get("/v1/jobs/job-anything")
    api.client.get("/v1/no/such/route")
    text = api.client.get("/metrics").text
    assert 'route="/v1/jobs/{job_id}"' in text
    assert 'route="unmatched"' in text
    assert "job-anything" not in text
    assert "no/such" not in text


def test_no_json_text_ends_in_a_500(api: Served):
    """The JSON Test Suite (Seriot 2016): what parsers trip over, as bodies of a submit."""
    files = sorted(published("robustness/json_test_suite").rglob("*.json"))
    assert len(files) > 300
    statuses = {
        file.name: api.client.post("/v1/jobs", content=file.read_bytes(), headers=JSON).status_code
        for file in files
    }
    assert {name: s for name, s in statuses.items() if s not in {400, 413}} == {}


def test_no_naughty_string_ends_in_a_500(api: Served):
    """The Big List of Naughty Strings, as ids, names and values."""
    strings = json.loads((published("robustness/naughty_strings") / "blns.json").read_text())
    spec = {"kind": "fine_tune", "model": "m", "task": "text-classification"}
    for text in strings:
        body = spec | {"data": {"train": text}, "model": text, "metadata": {"note": text}}
        assert api.client.post("/v1/jobs", json=body).status_code == 400, text
        answer = api.client.post("/v1/keys", json={"name": text, "scopes": ["predict"]})
        assert answer.status_code in {201, 400}, text
        found = api.client.get("/v1/jobs", params={"after": text, "kind": text})
        assert found.status_code in {200, 400}, text
