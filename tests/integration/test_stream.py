"""Text while it is written, over a real socket: events, their end, errors, and a client that leaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn

from tests.served import Served, served

CHAT = "ft:tiny:chat:0000000000"
SUMMARY = "ft:tiny:summary:0000000000"
LABELS = "ft:tiny:labels:0000000000"


@pytest.fixture(scope="module")
def api(tmp_path_factory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("stream")) as running:
        generation = {"kind": "text-generation", "form": "completion"}
        running.add_model(CHAT, labels=None, architecture="decoder", task=generation)
        running.add_model(
            SUMMARY, labels=None, architecture="encoder_decoder", task={"kind": "summarization"}
        )
        running.add_model(LABELS)
        yield running


@pytest.fixture(scope="module")
def http(api) -> Iterator[httpx2.Client]:
    """Return a client of the application behind a real server: in-process clients see no stream."""
    config = uvicorn.Config(api.app, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", headers=api.headers(), timeout=60
    ) as client:
        yield client
    server.should_exit = True
    thread.join()


def body(**fields: Any) -> dict[str, Any]:
    return {"inputs": ["good bad"], "stream": True, **fields}


def events(http: httpx2.Client, model_id: str, content: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    with http.stream("POST", f"/v1/models/{model_id}/predict", json=content) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


@pytest.mark.parametrize(
    ("model_id", "key", "options"),
    [
        (CHAT, "generated_text", {"max_new_tokens": 20}),
        (CHAT, "generated_text", {"max_new_tokens": 20, "do_sample": True, "seed": 4}),
        (SUMMARY, "summary_text", {"max_new_tokens": 20, "num_beams": 1}),
    ],
)
def test_the_pieces_are_the_answer_that_comes_without_a_stream(http, model_id, key, options):
    *deltas, (name, last) = events(http, model_id, body(parameters=options))
    assert name == "done"
    assert len(deltas) > 2
    assert {each for each, _ in deltas} == {"delta"}
    whole = "".join(delta["text"] for _, delta in deltas)
    assert whole.strip() == last["data"][0][key]
    plain = {"inputs": ["good bad"], "parameters": options}
    assert http.post(f"/v1/models/{model_id}/predict", json=plain).json() == last


@pytest.mark.parametrize(
    ("model_id", "content", "param"),
    [
        (LABELS, body(), "stream"),
        (SUMMARY, body(), "stream"),  # four beams, unless it is told otherwise
        (CHAT, body(inputs=["a", "b"]), "stream"),
        (CHAT, body(parameters={"num_beams": 3}), "stream"),
        (CHAT, body(parameters={"colour": 3}), "parameters.colour"),
        (CHAT, body(inputs=[7]), "inputs.0"),
        (CHAT, body(stream="perhaps"), "stream"),
    ],
)
def test_what_cannot_be_streamed_is_an_error_before_the_stream(http, model_id, content, param):
    answer = http.post(f"/v1/models/{model_id}/predict", json=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_client_that_leaves_ends_the_writing(http):
    content = body(parameters={"max_new_tokens": 8000})
    with http.stream("POST", f"/v1/models/{CHAT}/predict", json=content) as answer:
        lines = answer.iter_lines()
        assert any(line.startswith("data: ") for line in lines)
    # The one thread that writes is free again, long before 8,000 tokens would have been written.
    plain = {"inputs": ["good bad"], "parameters": {"max_new_tokens": 2}}
    answer = http.post(f"/v1/models/{CHAT}/predict", json=plain, timeout=30)
    assert answer.status_code == 200
