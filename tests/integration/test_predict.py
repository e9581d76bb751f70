"""Predictions over HTTP with real tiny models: answers, errors, load, and what deleting does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from app.store.durable import remove_folder
from tests.served import Served, served
from tests.tiny import TEXTS

SINGLE = "ft:tiny:single:0000000000"
MULTI = "ft:tiny:multi:0000000000"
SCORE = "ft:tiny:score:0000000000"
PAIR = "ft:tiny:pair:0000000000"
FOREIGN = "ft:tiny:foreign:0000000000"
LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with served(tmp_path_factory.mktemp("predict")) as running:
        running.add_model(SINGLE, labels=LABELS)
        running.add_model(MULTI, labels=LABELS, task={"problem": "multi_label"})
        running.add_model(SCORE, labels=None)
        running.add_model(PAIR, task={"pair": True})
        running.add_model(FOREIGN, tenant=1)
        yield running


def ask(api: Served, model_id: str, inputs, **parameters):
    body = {"inputs": inputs, "parameters": parameters} if parameters else {"inputs": inputs}
    return api.client.post(f"/v1/models/{model_id}/predict", json=body)


def error_of(answer, status: int) -> dict:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def reference(folder, texts: list[str]) -> list[list[float]]:
    """Return the probabilities that plain transformers gives, text by text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [
            network(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
            for text in texts
        ]


def test_answers_are_those_of_plain_transformers(api: Served):
    body = ask(api, SINGLE, list(TEXTS)).json()
    assert (body["object"], body["model"], body["task"]) == ("list", SINGLE, "text-classification")
    assert body["usage"]["tokens"] == sum(len(text.split()) + 2 for text in TEXTS)
    expected = reference(api.services.layout.model("tiny-single-0000000000"), list(TEXTS))
    for answer, probabilities in zip(body["data"], expected, strict=True):
        found = {item["label"]: item["score"] for item in answer["scores"]}
        assert [found[label] for label in LABELS] == pytest.approx(probabilities, abs=1e-4)
        assert answer["score"] == max(found.values())
        assert answer["label"] == LABELS[probabilities.index(max(probabilities))]
        assert "truncated" not in answer


def test_one_input_without_a_list_gives_one_answer(api: Served):
    data = ask(api, SINGLE, TEXTS[0]).json()["data"]
    assert data == ask(api, SINGLE, [TEXTS[0]]).json()["data"]
    assert len(data) == 1


def test_many_inputs_of_all_lengths_keep_their_order(api: Served):
    texts = [" ".join(["good", "old", "film"] * (1 + n % 9)) + f" {n}" for n in range(300)]
    together = ask(api, SINGLE, texts).json()["data"]
    for index in (0, 1, 8, 150, 299):
        alone = ask(api, SINGLE, texts[index]).json()["data"][0]
        assert together[index]["label"] == alone["label"]
        assert together[index]["score"] == pytest.approx(alone["score"], abs=1e-4)


def test_problems_answer_in_their_own_shape(api: Served):
    multi = ask(api, MULTI, "good film").json()["data"][0]
    assert multi["labels"] == [item["label"] for item in multi["scores"] if item["score"] >= 0.5]
    assert ask(api, SCORE, "good film").json()["data"][0].keys() == {"score"}


def test_a_list_is_always_a_list_of_inputs(api: Served):
    pair = {"text": "good film", "text_pair": "bad film"}
    answer = ask(api, PAIR, pair).json()["data"]
    assert answer == ask(api, PAIR, [pair]).json()["data"]
    assert answer == ask(api, PAIR, [["good film", "bad film"]]).json()["data"]
    assert error_of(ask(api, PAIR, ["good film", "bad film"]), 400)["param"] == "inputs.0"


def test_a_text_that_was_cut_says_so(api: Served):
    short, long = ask(api, SINGLE, ["good film", "good " * 100]).json()["data"]
    assert "truncated" not in short
    assert long["truncated"] is True


def test_parameters(api: Served):
    answer = ask(api, SINGLE, "good film", top_k=1, function_to_apply="sigmoid").json()["data"][0]
    assert len(answer["scores"]) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": ["a"] * 1001}, "inputs"),
        ({}, "inputs"),
        ({"inputs": ["a"], "options": {}}, "options"),
        ({"inputs": ["a", "b", "c", 4]}, "inputs.3"),
        ({"inputs": ["a", ""]}, "inputs.1"),
        ({"inputs": None}, "inputs.0"),
        ({"inputs": [{"text": "a", "txt": "b"}]}, "inputs.0.txt"),
        ({"inputs": "a", "parameters": {"top": 1}}, "parameters.top"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, "parameters.top_k"),
        ({"inputs": "a", "parameters": []}, "parameters"),
        ([], "body"),
    ],
)
def test_a_wrong_request_names_the_field(api: Served, body, param):
    error = error_of(api.client.post(f"/v1/models/{SINGLE}/predict", json=body), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"].startswith(param.removesuffix(".txt"))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"inputs": "\\ud800"}'])
def test_a_body_that_is_not_json(api: Served, content):
    answer = api.client.post(f"/v1/models/{SINGLE}/predict", content=content)
    assert error_of(answer, 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize("model_id", [FOREIGN, "ft:no:such:model", "all-MiniLM-L6-v2"])
def test_no_such_model(api: Served, model_id):
    assert error_of(ask(api, model_id, "a"), 404)["type"] == "not_found_error"


def test_an_encoded_id_is_the_same_model(api: Served):
    assert ask(api, quote(SINGLE, safe=""), "good film").json()["model"] == SINGLE


def test_needs_a_key_with_the_scope(api: Served):
    url = f"/v1/models/{SINGLE}/predict"
    reader = api.headers(scopes=["read-only"])
    body = {"inputs": "good film"}
    assert error_of(api.client.post(url, json=body, headers=reader), 403)["code"]
    wrong = {"Authorization": "Bearer ak-wrong"}
    assert error_of(api.client.post(url, json=body, headers=wrong), 401)["code"]
    caller = api.headers(scopes=["predict"])
    for _ in range(2):
        assert api.client.post(url, json=body, headers=caller).status_code == 200


def test_many_callers_at_once_get_their_own_answers(tmp_path):
    with served(tmp_path) as api:
        api.add_model(SINGLE, labels=LABELS)
        texts = [f"{text} {number}" for number in range(12) for text in TEXTS]
        with ThreadPoolExecutor(16) as pool:
            # The first of them all find no model loaded.
            answers = list(pool.map(lambda text: ask(api, SINGLE, text).json()["data"][0], texts))
        for text, answer in zip(texts, answers, strict=True):
            alone = ask(api, SINGLE, text).json()["data"][0]
            assert answer["label"] == alone["label"]
            assert answer["score"] == pytest.approx(alone["score"], abs=1e-4)
        assert api.services.predictor is not None
        assert api.services.predictor.loaded() == [SINGLE]


def test_who_hangs_up_is_not_worked_for(api: Served):
    """The client sends its request and closes the connection while the model is at work."""
    headers = [(name.lower().encode(), value.encode()) for name, value in api.headers().items()]
    path = f"/v1/models/{SINGLE}/predict"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
             "http_version": "1.1", "scheme": "http", "server": ("testserver", 80)}  # fmt: skip
    body = json.dumps({"inputs": ["good film"] * 1000}).encode()
    messages = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent: list[dict] = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    assert api.client.portal is not None
    api.client.portal.call(api.app, scope, receive, send)
    assert sent[0]["status"] == 499
    assert ask(api, SINGLE, "good film").status_code == 200


def test_a_deleted_model_answers_no_more(tmp_path):
    with served(tmp_path) as api:
        api.add_model(SINGLE)
        assert ask(api, SINGLE, "good film").status_code == 200
        assert api.client.delete(f"/v1/models/{SINGLE}").status_code == 200
        assert ask(api, SINGLE, "good film").status_code == 404
        assert api.services.predictor is not None
        assert api.services.predictor.loaded() == []


def test_a_small_cache_serves_many_models(tmp_path):
    with served(tmp_path, model_cache_bytes=1) as api:
        ids = [f"ft:tiny:n{number}:0000000000" for number in range(3)]
        for seed, model_id in enumerate(ids):
            api.add_model(model_id, seed=seed)
        first = [ask(api, model_id, "good film").json()["data"] for model_id in ids]
        again = [ask(api, model_id, "good film").json()["data"] for model_id in ids]
        assert first == again
        assert api.services.predictor is not None
        assert api.services.predictor.loaded() == ids[-1:]


def test_a_damaged_model_is_not_served_and_one_repaired_is(tmp_path):
    with served(tmp_path) as api:
        folder = api.add_model(SINGLE)
        weights = folder / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        error = error_of(ask(api, SINGLE, "good film"), 409)
        assert error["code"] == "corrupt_folder"
        assert "model.safetensors" in error["message"]
        assert str(tmp_path) not in json.dumps(error)
        weights.write_bytes(content)
        assert ask(api, SINGLE, "good film").status_code == 200


def test_a_model_whose_folder_has_gone(tmp_path):
    with served(tmp_path) as api:
        remove_folder(api.add_model(SINGLE))
        assert error_of(ask(api, SINGLE, "good film"), 409)["code"] == "corrupt_folder"


def test_predictions_can_be_switched_off(tmp_path):
    with served(tmp_path, predict=False) as api:
        api.add_model(SINGLE)
        answer = ask(api, SINGLE, "good film")
        assert answer.status_code in {404, 405}
        assert api.client.get(f"/v1/models/{SINGLE}").status_code == 200


def test_predictions_are_measured(api: Served):
    ask(api, SINGLE, ["good film", "bad film"])
    text = api.client.get("/metrics").text
    assert 'attune_predict_inputs_total{task="text-classification"}' in text
    assert 'attune_predict_seconds_count{task="text-classification"}' in text
    assert 'route="/v1/models/{model_id:path}/predict"' in text
