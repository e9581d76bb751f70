"""Every option of every task's predict calls, over HTTP: known, working, and refused when it is wrong."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from app.adapt.plugins import TASKS
from tests.served import Served, served

TEXT = "good bad new old one two three"
LONG = " ".join([TEXT] * 8)
QUESTION = {"question": "one?", "context": LONG}
CHAT = {"messages": [{"role": "user", "content": "where is my transfer"}]}
FITTED: dict[str, dict[str, Any]] = {
    "text-classification": {"problem": "single_label", "labels": ["a", "b", "c"], "pair": False},
    "token-classification": {"entities": ["PER", "LOC"]},
    "question-answering": {"unanswerable": True},
    "summarization": {},
    "text2text-generation": {},
    "translation": {"segmentation": "13a"},
    "text-generation": {"form": "messages"},
    "sentence-similarity": {"form": "pairs"},
    "fill-mask": {},
}
INPUTS: dict[str, Any] = {
    "text-classification": TEXT,
    "token-classification": LONG,
    "question-answering": QUESTION,
    "summarization": TEXT,
    "text2text-generation": TEXT,
    "translation": TEXT,
    "text-generation": CHAT,
    "sentence-similarity": {"source_sentence": "good", "sentences": ["bad", "new old"]},
    "fill-mask": "good [MASK] new",
}
SHORT = {"max_new_tokens": 4}
DRAWN = SHORT | {"do_sample": True, "seed": 3}


class Option(NamedTuple):
    """Parameters, what is sent beside them in both calls, and whether the answer must then differ."""

    name: str
    value: Any
    beside: dict[str, Any] = {}
    differs: bool = True
    wrong: Any = "x"


WRITING = [
    Option("max_new_tokens", 2, {"min_new_tokens": 2}, wrong=0),
    Option("min_new_tokens", 4, {"max_new_tokens": 4}, differs=False, wrong=-1),
    Option("num_beams", 3, SHORT, differs=False, wrong=0),
    Option("length_penalty", 2.0, SHORT | {"num_beams": 2}, differs=False, wrong=99),
    Option("early_stopping", True, SHORT | {"num_beams": 2}, differs=False, wrong=7),
    Option("do_sample", True, SHORT, differs=False),
    Option("temperature", 9.0, DRAWN, wrong=0),
    Option("top_k", 1, DRAWN, wrong=-1),
    Option("top_p", 0.01, DRAWN, wrong=2),
    Option("seed", 4, SHORT | {"do_sample": True}, differs=False, wrong=-1),
    Option("repetition_penalty", 9.0, SHORT, differs=False, wrong=0),
    Option("no_repeat_ngram_size", 1, SHORT, differs=False, wrong=-1),
    Option("num_return_sequences", 2, SHORT | {"num_beams": 2}, wrong=0),
]
OPTIONS: dict[str, list[Option]] = {
    "text-classification": [
        Option("top_k", 2, wrong=0),
        Option("function_to_apply", "sigmoid", wrong="tanh"),
    ],
    "token-classification": [
        Option("aggregation_strategy", "none", wrong="last"),
        Option("ignore_labels", [], wrong="O"),
        Option("stride", 0, wrong=-1),
    ],
    "question-answering": [
        Option("top_k", 3, wrong=0),
        Option("max_answer_length", 1, {"top_k": 100}, wrong=0),
        Option("handle_impossible_answer", False, {"top_k": 100}),
        Option("doc_stride", 1, {"top_k": 100}, wrong=0),
    ],
    "summarization": WRITING,
    "text2text-generation": WRITING,
    "translation": WRITING,
    "text-generation": [*WRITING, Option("return_full_text", True, SHORT)],
    "sentence-similarity": [],
    "fill-mask": [
        Option("top_k", 2, wrong=0),
        Option("targets", ["good", "bad"], wrong=["nowordofit"]),
    ],
}
CASES = [(kind, option) for kind, options in OPTIONS.items() for option in options]


def model_of(kind: str) -> str:
    return f"ft:tiny:{kind}:0000000000"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with served(tmp_path_factory.mktemp("options")) as running:
        for kind, fitted in FITTED.items():
            task = TASKS[kind].model_validate({"kind": kind, **fitted}).model_dump(mode="json")
            running.add_model(model_of(kind), labels=None, task=task)
        yield running


def ask(api: Served, kind: str, **parameters: Any) -> Any:
    body = {"inputs": [INPUTS[kind]], "parameters": parameters}
    return api.client.post(f"/v1/models/{model_of(kind)}/predict", json=body)


@pytest.mark.parametrize("kind", TASKS.kinds)
def test_every_option_is_tried_here(kind: str):
    known = set(TASKS[kind].parameters.model_fields)
    assert {option.name for option in OPTIONS[kind]} == known


@pytest.mark.parametrize(("kind", "option"), CASES, ids=lambda value: getattr(value, "name", value))
def test_an_option_works_and_a_wrong_value_is_refused(api: Served, kind: str, option: Option):
    without = ask(api, kind, **option.beside)
    with_it = ask(api, kind, **option.beside, **{option.name: option.value})
    assert (without.status_code, with_it.status_code) == (200, 200), with_it.text
    if option.differs:
        assert with_it.json()["data"] != without.json()["data"]
    refused = ask(api, kind, **option.beside, **{option.name: option.wrong})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"].startswith(f"parameters.{option.name}")


@pytest.mark.parametrize("kind", TASKS.kinds)
def test_an_option_that_is_not_known_is_refused_with_those_that_are(api: Served, kind: str):
    error = ask(api, kind, tok_p=1).json()["error"]
    assert error["param"] == "parameters.tok_p"
    known = ", ".join(sorted(TASKS[kind].parameters.model_fields)) or "none"
    assert error["message"].endswith(f"it knows: {known}")


def test_what_options_mean(api: Served):
    (answer,) = ask(api, "text-classification", top_k=2).json()["data"]
    assert len(answer["scores"]) == 2
    (spans,) = ask(api, "token-classification", ignore_labels=["PER", "O"]).json()["data"]
    assert {span["entity_group"] for span in spans} <= {"LOC"}
    (answers,) = ask(api, "question-answering", top_k=100, max_answer_len=1).json()["data"]
    assert all(" " not in answer["answer"] for answer in answers)
    (found,) = ask(api, "fill-mask", targets=["good", "bad"]).json()["data"]
    assert sorted(item["token_str"] for item in found) == ["bad", "good"]
    assert found == sorted(found, key=lambda item: -item["score"])
    (written,) = ask(api, "text-generation", **SHORT, return_full_text=True).json()["data"]
    assert written["generated_text"].startswith("where is my transfer")
    (several,) = ask(api, "summarization", **SHORT, num_beams=3, num_return_sequences=3).json()[
        "data"
    ]
    assert len(several) == 3
    same = [ask(api, "translation", **DRAWN).json()["data"] for _ in range(2)]
    assert same[0] == same[1]
