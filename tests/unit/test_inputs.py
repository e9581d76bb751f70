"""Files of inputs as a stream: every row in its place, and columns that a task reads without answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.adapt import inputs
from app.adapt.inputs import columns_of_file, inputs_of
from app.adapt.plugins import TASKS
from app.errors import InvalidData


def task(kind: str, **fields: Any) -> Any:
    return TASKS[kind].model_validate(fields)


CLASSIFIER = task("text-classification", problem="single_label", labels=["a", "b"], pair=False)
PAIRS = CLASSIFIER.model_copy(update={"pair": True})


def test_rows_keep_their_order_whatever_is_wrong_with_them(tmp_path: Path):
    path = tmp_path / "f.jsonl"
    lines = [
        '{"text": "one"}',
        "{broken",
        '{"text": " "}',
        '{"text": 4}',
        "[1]",
        '{"text": "six"}',
        "{",
    ]
    path.write_text("\n".join(lines) + "\n")
    found = list(inputs_of(path, "f.jsonl", CLASSIFIER, {"text": "text"}))
    assert [entry.number for entry in found] == [1, 2, 3, 4, 5, 6, 7]
    codes = [None if entry.problem is None else entry.problem.code for entry in found]
    assert codes == [None, "invalid_json", "no_input", None, "not_an_object", None, "invalid_json"]
    texts = [entry.example.inputs["text"] for entry in found if entry.example is not None]
    assert texts == ["one", "4", "six"]
    assert columns_of_file(path, "f.jsonl", max_rows=100) == (["text"], 7)


def test_more_problems_than_a_report_keeps_are_all_there(tmp_path: Path):
    path = tmp_path / "f.csv"
    path.write_text("text,id\n" + "\n".join("a" if n % 2 else f"b,{n}" for n in range(1000)) + "\n")
    found = list(inputs_of(path, "f.csv", CLASSIFIER, {"text": "text"}))
    assert [entry.number for entry in found] == list(range(2, 1002))
    assert sum(entry.problem is not None for entry in found) == 500


def test_a_file_that_is_mostly_something_else_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(inputs, "MOST_UNREAD", 50)
    path = tmp_path / "f.jsonl"
    good = '{"text": "one"}\n'
    path.write_text(good + "x\n" * 50 + good + "x\n" * 50)
    assert len(list(inputs_of(path, "f.jsonl", CLASSIFIER, {"text": "text"}))) == 102
    path.write_text(good + "x\n" * 51 + good)
    with pytest.raises(InvalidData, match=r"more than 50 rows in a row .* from row 2 on"):
        list(inputs_of(path, "f.jsonl", CLASSIFIER, {"text": "text"}))


@pytest.mark.parametrize("content", ["", "\n\n", "text\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "f.csv"
    path.write_text(content)
    with pytest.raises(InvalidData):
        columns_of_file(path, "f.csv", max_rows=10)


def test_a_file_that_is_too_long_is_refused(tmp_path: Path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"text": "a"}\n' * 11)
    with pytest.raises(InvalidData) as caught:
        columns_of_file(path, "f.jsonl", max_rows=10)
    assert caught.value.error_code == "too_many_rows"


@pytest.mark.parametrize(
    ("kind", "found", "given", "wanted"),
    [
        (CLASSIFIER, ["question", "question2", "label"], {}, {"text": "question"}),
        (PAIRS, ["premise", "hypothesis"], {}, {"text": "premise", "text_pair": "hypothesis"}),
        ("token-classification", ["tokens", "tags", "text"], {}, {"tokens": "tokens"}),
        ("token-classification", ["tokens", "text"], {"text": "text"}, {"text": "text"}),
        ("token-classification", ["sentence"], {}, {"text": "sentence"}),
        ("question-answering", ["query", "context"], {},
         {"question": "query", "context": "context"}),
        ("question-answering", ["question", "context", "answers"], {},
         {"question": "question", "context": "context"}),
        ("summarization", ["article", "id"], {}, {"document": "article"}),
        ("translation", ["source", "target"], {}, {"source": "source"}),
        (task("translation", source_language="de", target_language="en"), ["en", "de"], {},
         {"source": "de"}),
        ("translation", ["translation"], {}, {"source": "translation"}),
        ("text-generation", ["messages", "prompt"], {}, {"messages": "messages"}),
        (task("text-generation", form="completion"), ["prompt", "input", "messages"], {},
         {"prompt": "prompt", "input": "input"}),
        ("text-generation", ["instruction", "output"], {}, {"prompt": "instruction"}),
        ("text-generation", ["messages", "text"], {"text": "text"}, {"text": "text"}),
        ("fill-mask", ["text", "label"], {}, {"text": "text"}),
        ("sentence-similarity", ["sentence1", "sentence2", "negative", "score"], {},
         {"sentence1": "sentence1", "sentence2": "sentence2"}),
        ("sentence-similarity", ["text", "sentence1"], {}, {"text": "text"}),
        ("sentence-similarity", ["query"], {}, {"sentence1": "query"}),
    ],
)  # fmt: skip
def test_columns_without_answers(kind: Any, found, given, wanted):
    asked = task(kind) if isinstance(kind, str) else kind
    assert asked.input_columns(found, given, "f") == wanted


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (CLASSIFIER, ["label"]),
        (PAIRS, ["text"]),
        ("token-classification", ["tags"]),
        ("question-answering", ["question"]),
        ("translation", ["target"]),
        ("text-generation", ["completion", "input"]),
        ("sentence-similarity", ["score"]),
    ],
)
def test_columns_that_are_not_enough(kind: Any, found):
    asked = task(kind) if isinstance(kind, str) else kind
    with pytest.raises(InvalidData) as caught:
        asked.input_columns(found, {}, "f")
    assert caught.value.param.startswith("data.columns")


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("summarization", {"document": ["a", "b"]}, "a b"),
        ("summarization", {"document": ["a", ""]}, ["a", ""]),
        ("translation", {"source": {"de": "ja", "en": "yes"}}, "ja"),
        (task("translation", source_language="en"), {"source": {"de": "ja", "en": "yes"}}, "yes"),
        ("text-generation", {"prompt": "p", "input": "i"}, {"prompt": "p\n\ni"}),
        ("text-generation", {"prompt": "p", "input": " "}, {"prompt": "p"}),
        (CLASSIFIER, {"text": 3.5}, "3.5"),
        (CLASSIFIER, {"text": True}, True),
    ],
)
def test_what_a_row_asks(kind: Any, given, wanted):
    asked = task(kind) if isinstance(kind, str) else kind
    assert asked.input_value(given) == wanted


def test_a_row_without_a_value_is_a_problem_and_no_crash(tmp_path: Path):
    rows = [{"text": None}, {}, {"text": ["a"]}, {"text": {"a": 1}}, {"text": "good"}]
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind in TASKS.kinds:
        asked = task(kind)
        if kind == "text-classification":
            asked = CLASSIFIER
        columns = {role.name: "text" for role in asked.roles if not role.is_target}
        first = next(iter(columns))
        found = list(inputs_of(path, "f.jsonl", asked, {first: "text"}))
        assert len(found) == len(rows)
        assert all((entry.example is None) != (entry.problem is None) for entry in found)
