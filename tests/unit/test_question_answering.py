"""Questions: reading them in every form, windows that lose no answer, the SQuAD script's figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizerFast

from app.adapt.outputs import Encoded
from app.adapt.reader import Problems, Row
from app.adapt.task import Example
from app.adapt.tasks.question_answering.config import QuestionAnswering
from app.adapt.tasks.question_answering.data import Answers
from app.adapt.tasks.question_answering.metrics import by_characters
from app.errors import InvalidData, InvalidRequest
from tests.tiny import make_vocab

TASK = QuestionAnswering()
CONTEXT = "Ada wrote it, and Ada printed it."


def parse(**answers: Any) -> tuple[list[Example], Problems]:
    values = {"question": "Who?", "context": CONTEXT, **answers}
    problems = Problems("f.jsonl")
    columns = TASK.resolve_columns(list(values), {}, "f.jsonl")
    return TASK.parse([Row(4, values)], columns, problems), problems


@pytest.mark.parametrize(
    "given",
    [
        {"answers": {"text": ["Ada", "Ada"], "answer_start": [0, 18]}},
        {"answers": [{"text": "Ada", "answer_start": 0}, {"text": "Ada", "answer_start": 18}]},
    ],
)
def test_lists_of_answers(given):
    (example,), _ = parse(**given)
    assert example.target == Answers(("Ada", "Ada"), (0, 18))


@pytest.mark.parametrize(
    "given",
    [
        {"answer": "it", "answer_start": 10},
        {"answer": "it", "answer_start": "10"},  # as CSV has it
        {"answer": "it", "answer_start": 10.0},  # as a table with gaps has it
        {"answers": {"text": "it", "answer_start": 10}},
    ],
)
def test_one_answer(given):
    (example,), _ = parse(**given)
    assert example.target == Answers(("it",), (10,))


@pytest.mark.parametrize("given", [None, "", "  ", [], {"text": [], "answer_start": []}])
def test_no_answer(given):
    (example,), _ = parse(answers=given)
    assert example.target == Answers((), ())


def test_what_is_put_right_is_said():
    (moved,), _ = parse(answers={"text": ["Ada"], "answer_start": [15]})
    assert moved.target == Answers(("Ada",), (18,), "moved")
    (first,), _ = parse(answer="Ada")
    assert first.target == Answers(("Ada",), (0,), "ambiguous")
    repairs = TASK.report(2, [moved, first]).repairs
    assert any("nearest place" in text and "row 4" in text for text in repairs)
    assert any("the first is taken" in text for text in repairs)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"answers": {"text": ["Grace"], "answer_start": [0]}}, "answer_not_found"),
        ({"answer": "Grace"}, "answer_not_found"),
        ({"answers": 3}, "wrong_type"),
        ({"answers": {"text": [3], "answer_start": [0]}}, "wrong_type"),
        ({"answers": {"text": ["Ada"], "answer_start": ["x"]}}, "wrong_type"),
        ({"answers": {"text": ["Ada"], "answer_start": [0.5]}}, "wrong_type"),
        ({"answers": {"text": ["Ada", "it"], "answer_start": [0]}}, "wrong_type"),
        ({"answers": "Ada", "context": ""}, "empty_text"),
        ({"answers": "Ada", "question": None}, "empty_text"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(given, code):
    examples, problems = parse(**given)
    assert examples == []
    assert (problems.first[0].code, problems.first[0].row) == (code, 4)


def test_a_set_without_answers():
    examples, _ = parse(answers=None)
    with pytest.raises(InvalidData, match="no row with an answer"):
        TASK.fit(examples, "f.jsonl")
    problems = Problems("f.jsonl")
    assert QuestionAnswering(unanswerable=False).check(examples, problems) == []
    assert problems.first[0].code == "no_answer"


LONG = " ".join(
    f"on day {n} the {name} came to naïve town" for n, name in enumerate("abcdefgh" * 3)
)


def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab=make_vocab([LONG, "Who came?"]), do_lower_case=True)


def perfect(item: Encoded) -> np.ndarray:
    scores = np.zeros((len(item.input_ids), 2), dtype=np.float32)
    first, last = item.target
    scores[first, 0] = scores[last, 1] = 10.0
    return scores


@pytest.mark.parametrize("max_length", [24, 48, 512])
def test_windows_lose_no_answer(max_length):
    task = QuestionAnswering(doc_stride=12, unanswerable=False)
    for text in ("day 0 the a", "town on day 12", "naïve town"):
        start = LONG.rindex(text)
        inputs = {"question": "Who came?", "context": LONG}
        example = Example(1, inputs, Answers((text,), (start,)))
        rows = task.encode(tokenizer(), [example], max_length)
        assert (len(rows) > 1) == (max_length < 200)
        assert all(len(row) <= max_length for row in rows)
        answer = task.merge(
            [task.decode(perfect(row), row, None) for row in rows], type(task).parameters()
        )
        assert (answer["answer"], answer["start"], answer["end"]) == (
            text,
            start,
            start + len(text),
        )
        metrics = task.metrics()
        metrics.add([perfect(row) for row in rows], rows)
        assert metrics.compute() == {"exact_match": 1.0, "f1": 1.0}


def test_a_long_question_leaves_room_for_the_context():
    example = Example(1, {"question": LONG, "context": "the b came"}, None)
    (row,) = TASK.encode(tokenizer(), [example], 32)
    assert sum(place is not None for place in row.extra["offsets"]) == 3


def test_answers_are_the_hubs():
    task = QuestionAnswering(unanswerable=True)
    make = type(task).parameters
    example = Example(1, {"question": "Who came?", "context": "the b came to town"}, None)
    (row,) = task.encode(tokenizer(), [example], 64)
    scores = np.zeros((len(row.input_ids), 2), dtype=np.float32)
    at = row.extra["offsets"].index((4, 5))
    scores[at] = 5.0
    windows = [task.decode(scores, row, None)]
    answer = task.merge(windows, make())
    assert (answer["answer"], answer["start"], answer["end"]) == ("b", 4, 5)
    assert 0.5 < answer["score"] < 1
    ranked = task.merge(windows, make(top_k=3))
    assert len(ranked) == 3
    assert ranked[0] == answer
    scores[0] = 9.0
    none = task.merge([task.decode(scores, row, None)], make())
    assert (none["answer"], none["start"], none["end"]) == ("", 0, 0)
    forced = task.merge([task.decode(scores, row, None)], make(handle_impossible_answer=False))
    assert forced["answer"] == "b"
    long = task.merge(windows, make(max_answer_length=1, top_k=100))
    assert all(" " not in found["answer"] for found in long)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("text", "inputs.0"),
        ({"question": "q"}, "inputs.0.context"),
        ({"question": " ", "context": "c"}, "inputs.0.question"),
        ({"question": "q", "context": "c", "x": 1}, "inputs.0.x"),
    ],
)
def test_inputs_that_are_no_question(value, param):
    with pytest.raises(InvalidRequest) as caught:
        TASK.parse_input(value, 0)
    assert caught.value.param == param


def figures(context: str, given: str, right: list[str]) -> dict[str, float]:
    """Return the figures of an answer that is given with certainty."""
    words = [(at, at + 1) for at in range(len(context))]
    scores = np.zeros((len(context) + 1, 2), dtype=np.float32)
    if given:
        start = context.index(given)
        scores[start + 1, 0] = scores[start + len(given), 1] = 9.0
    else:
        scores[0] = 9.0
    starts = tuple(context.index(text) for text in right)
    extra = {
        "context": context,
        "offsets": [None, *words],
        "answers": Answers(tuple(right), starts),
    }
    metrics = QuestionAnswering(unanswerable=True).metrics()
    metrics.add([scores], [Encoded([0] * len(scores), extra=extra)])
    return metrics.compute()


def test_the_squad_scripts_rules():
    context = "It was the Eiffel Tower, in Paris."
    assert figures(context, "Eiffel Tower", ["the Eiffel Tower"]) == {"exact_match": 1.0, "f1": 1.0}
    near = figures(context, "Tower, in Paris", ["Paris", "in Paris."])
    assert near["exact_match"] == 0.0
    assert near["f1"] == pytest.approx(0.8)
    assert figures(context, "", []) == {"exact_match": 1.0, "f1": 1.0}
    assert figures(context, "Paris", []) == {"exact_match": 0.0, "f1": 0.0}
    assert figures(context, "", ["Paris"]) == {"exact_match": 0.0, "f1": 0.0}


def test_chinese_by_characters():
    assert by_characters("在北京NBA。").split() == ["在", "北", "京", "NBA"]
    assert by_characters("the Eiffel Tower's") == "the Eiffel Tower's"
    assert figures("他住在北京市。", "北京", ["北京市"])["f1"] == pytest.approx(0.8)
