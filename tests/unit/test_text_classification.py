"""Text classification: from rows of every shape to labels, and from scores to answers."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from app.adapt.reader import Problems, Row
from app.adapt.tasks.text_classification.config import TextClassification
from app.adapt.tasks.text_classification.predict import ClassificationParameters
from app.errors import InvalidData, InvalidRequest

FILE = "rows.csv"


def rows(*targets, text="text {}"):
    return [
        Row(number, {"text": text.format(number), "label": target})
        for number, target in enumerate(targets, start=1)
    ]


def parse(given, task=None, problems=None):
    task = task or TextClassification()
    problems = problems if problems is not None else Problems(FILE)
    columns = task.resolve_columns(list(given[0].values), {}, FILE)
    return task.parse(given, columns, problems)


def fit(*targets, **fields):
    return TextClassification(**fields).fit(parse(rows(*targets)), FILE)


# --- what the data decides ---


@pytest.mark.parametrize(
    ("targets", "problem", "labels"),
    [
        (["b", "a", "b"], "single_label", ["a", "b"]),
        ([10, 9, 2], "single_label", ["2", "9", "10"]),
        (["10", "9", "2"], "single_label", ["2", "9", "10"]),
        ([1.0, 0.0, 1], "single_label", ["0", "1"]),
        ([True, False, True], "single_label", ["false", "true"]),
        (["-1", "1", "0"], "single_label", ["-1", "0", "1"]),
        ([0.5, 1.0, 3], "regression", None),
        (["0.5", "2", "1e-3"], "regression", None),
        ([["x"], ["y", "x"], []], "multi_label", ["x", "y"]),
        ([[2], [10, 1]], "multi_label", ["1", "2", "10"]),
        (["1.5", "n/a"], "single_label", ["1.5", "n/a"]),
    ],
)
def test_problem_and_labels(targets, problem, labels):
    task = fit(*targets)
    assert (task.problem, task.labels) == (problem, labels)
    assert task.num_outputs == (1 if labels is None else len(labels))


def test_named_labels_keep_their_order_and_make_it_classification():
    assert fit("b", "a", labels=["b", "a", "c"]).labels == ["b", "a", "c"]
    assert fit(0.5, 1.5, labels=["0.5", "1.5"]).problem == "single_label"


@pytest.mark.parametrize(
    "fields",
    [{"labels": ["a", "a"]}, {"labels": ["a"]}, {"labels": ["a", "b"], "problem": "regression"}],
)
def test_labels_that_make_no_sense(fields):
    with pytest.raises(ValidationError):
        TextClassification(**fields)


@pytest.mark.parametrize("fields", [{}, {"labels": ["a", "b"]}])
def test_one_label_only(fields):
    with pytest.raises(InvalidData) as caught:
        fit("a", "a", **fields)
    assert caught.value.error_code == "one_label"
    assert "'a'" in caught.value.message


def test_no_usable_row():
    with pytest.raises(InvalidData) as caught:
        TextClassification().fit([], FILE)
    assert caught.value.error_code == "no_usable_rows"


def test_a_column_of_identifiers_is_not_a_label():
    with pytest.raises(InvalidData) as caught:
        fit(*(f"id-{n}" for n in range(200)))
    assert caught.value.error_code == "too_many_labels"


# --- rows ---


def problem_of(row: dict, **fields):
    problems = Problems(FILE)
    given = [Row(1, {"text": "fine", "label": "a", **({"text_pair": "b"} if fields else {})})]
    assert len(parse([*given, Row(2, row)], TextClassification(**fields), problems)) == 1
    (problem,) = problems.first
    assert problem.row == 2
    return problem.code, problem.column


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "", "label": "a"}, ("empty_text", "text")),
        ({"text": " \t\n", "label": "a"}, ("empty_text", "text")),
        ({"text": None, "label": "a"}, ("empty_text", "text")),
        ({"label": "a"}, ("empty_text", "text")),
        ({"text": ["x"], "label": "a"}, ("wrong_type", "text")),
        ({"text": {"x": 1}, "label": "a"}, ("wrong_type", "text")),
        ({"text": "x", "label": ""}, ("empty_label", "label")),
        ({"text": "x", "label": "  "}, ("empty_label", "label")),
        ({"text": "x", "label": None}, ("empty_label", "label")),
        ({"text": "x"}, ("empty_label", "label")),
        ({"text": "x", "label": {"a": 1}}, ("wrong_type", "label")),
        ({"text": "x", "label": [["a"]]}, ("wrong_type", "label")),
        ({"text": "x", "label": ["a", ""]}, ("wrong_type", "label")),
        ({"text": "x", "label": float("nan")}, ("wrong_type", "label")),
        ({"text": "x", "label": float("inf")}, ("wrong_type", "label")),
    ],
)
def test_rows_that_cannot_be_used(row, expected):
    assert problem_of(row) == expected


def test_a_missing_second_text_is_named():
    row = {"text": "x", "text_pair": " ", "label": "a"}
    assert problem_of(row, pair=True) == ("empty_text", "text_pair")


def test_numbers_are_texts_and_labels_are_stripped():
    (example,) = parse([Row(1, {"text": 42, "label": " a "})])
    assert (example.inputs, example.target) == ({"text": "42"}, "a")


def test_pairs_are_found_and_can_be_refused():
    given = [
        Row(n, {"premise": f"p{n}", "hypothesis": f"h{n}", "label": n % 2}) for n in range(1, 5)
    ]
    examples = parse(given)
    assert examples[0].inputs == {"text": "p1", "text_pair": "h1"}
    assert TextClassification().fit(examples, FILE).pair is True
    single = TextClassification(pair=False)
    assert parse(given, single)[0].inputs == {"text": "p1"}
    with pytest.raises(InvalidData) as caught:
        TextClassification(pair=True).fit(parse(rows("a", "b")), FILE)
    assert caught.value.param == "data.columns.text_pair"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["Sentence", "Label"], {"text": "Sentence", "label": "Label"}),
        (["id", "review", "stars"], {"text": "review", "label": "stars"}),
        (["content", "category"], {"text": "content", "label": "category"}),
        (["question1", "question2", "label"],
         {"text": "question1", "text_pair": "question2", "label": "label"}),
    ],
)  # fmt: skip
def test_headers_that_people_use(found, expected):
    assert TextClassification().resolve_columns(found, {}, FILE) == expected


def test_a_column_that_is_not_there_names_those_that_are():
    with pytest.raises(InvalidData) as caught:
        TextClassification().resolve_columns(["review", "stars"], {"text": "reviw"}, FILE)
    assert caught.value.param == "data.columns.text"
    assert "did you mean 'review'" in caught.value.message
    with pytest.raises(InvalidData) as caught:
        TextClassification().resolve_columns(["a", "b"], {}, FILE)
    assert caught.value.error_code == "column_not_found"


# --- what training has not seen ---


def test_an_unknown_label_comes_with_the_known_ones():
    task = fit("cash fee", "card arrival")
    problems = Problems(FILE)
    kept = task.check(parse(rows("cash fee", "cash fees")), problems)
    assert [example.row for example in kept] == [1]
    (problem,) = problems.first
    assert (problem.code, problem.row, problem.value) == ("unknown_label", 2, "cash fees")
    assert "did you mean 'cash fee'" in problem.message
    assert "card arrival" in problem.message


@pytest.mark.parametrize(
    ("trained", "target"),
    [(["a", "b"], ["a"]), ([0.5, 1], "much"), ([0.5, 1], True), ([["a"], ["b"]], ["a", "c"])],
)
def test_targets_of_another_kind(trained, target):
    problems = Problems(FILE)
    assert fit(*trained).check(parse(rows(target)), problems) == []
    assert len(problems) == 1


# --- the report ---


def warnings(*targets, **fields):
    examples = parse(rows(*targets, **fields))
    task = TextClassification().fit(examples, FILE)
    return task.report(len(examples), examples)


def test_imbalance_scarcity_and_twins_are_said():
    report = warnings(*(["no"] * 90), *(["yes"] * 5), "Yes")
    text = " ".join(report.warnings)
    assert "uneven" in text
    assert "fewer than 8 rows" in text
    assert "['Yes', 'yes']" in text
    assert report.statistics["majority_share"] == pytest.approx(90 / 96)
    assert report.statistics["labels"] == {"no": 90, "yes": 5, "Yes": 1}


def test_duplicates_and_lengths():
    report = warnings(*(["a", "b"] * 10), text="same")
    assert report.statistics["duplicates"] == 19
    assert report.statistics["characters"] == {"min": 4, "mean": 4, "p50": 4, "p95": 4, "max": 4}


def test_a_balanced_set_is_not_warned_about():
    assert warnings(*(["a", "b"] * 10)).warnings == []


# --- predictions ---

LOGITS = np.array([1.0, 3.0, -2.0], dtype=np.float32)


def decode(task, logits=LOGITS, **parameters):
    return task.decode(logits, None, ClassificationParameters(**parameters))


def test_single_label_answers():
    task = TextClassification(problem="single_label", labels=["a", "b", "c"], pair=False)
    answer = decode(task)
    assert answer["label"] == "b"
    assert [item["label"] for item in answer["scores"]] == ["b", "a", "c"]
    assert sum(item["score"] for item in answer["scores"]) == pytest.approx(1.0, abs=1e-5)
    assert decode(task, top_k=1)["scores"] == answer["scores"][:1]
    raw = decode(task, function_to_apply="none")["scores"]
    assert [item["score"] for item in raw] == [3.0, 1.0, -2.0]
    with pytest.raises(ValidationError):
        ClassificationParameters(top_k=0)


def test_multi_label_answers():
    task = TextClassification(problem="multi_label", labels=["a", "b", "c"], pair=False)
    assert decode(task)["labels"] == ["b", "a"]
    strict = task.model_copy(update={"threshold": 0.9})
    assert decode(strict)["labels"] == ["b"]
    assert decode(task, np.full(3, -1e4, dtype=np.float32))["labels"] == []


def test_regression_answers():
    task = TextClassification(problem="regression", pair=False)
    assert decode(task, np.array([2.5], dtype=np.float32)) == {"score": 2.5}


@pytest.mark.parametrize("value", ["x", {"text": "x"}])
def test_inputs_of_one_text(value):
    task = TextClassification(problem="single_label", labels=["a", "b"], pair=False)
    assert task.parse_input(value, 3).inputs == {"text": "x"}


@pytest.mark.parametrize("value", [["x", "y"], {"text": "x", "text_pair": "y"}])
def test_inputs_of_two_texts(value):
    task = TextClassification(problem="single_label", labels=["a", "b"], pair=True)
    assert task.parse_input(value, 0).inputs == {"text": "x", "text_pair": "y"}


@pytest.mark.parametrize(
    ("is_pair", "value"),
    [(False, ""), (False, " "), (False, None), (False, 7), (False, ["x", "y"]), (False, ["x"]),
     (False, {"txt": "x"}), (False, {}), (True, "x"), (True, ["x", ""]), (True, ["x", "y", "z"])],
)  # fmt: skip
def test_inputs_that_are_refused(is_pair, value):
    task = TextClassification(problem="single_label", labels=["a", "b"], pair=is_pair)
    with pytest.raises(InvalidRequest) as caught:
        task.parse_input(value, 2)
    assert (caught.value.param or "").startswith("inputs.2")
