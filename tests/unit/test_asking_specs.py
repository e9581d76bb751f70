"""`evaluate` and `batch_predict` as specs: what they need of a model, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from app.adapt.plugins import TASKS
from app.adapt.task import Task
from app.errors import InvalidData, InvalidSpec
from app.spec.base import ModelSpec
from app.spec.batch_predict import BatchPredict
from app.spec.evaluate import Evaluate
from app.spec.job import SPECS, makes_model, parse_spec, parse_training

FILE = "file-" + "0" * 26
EVALUATE: dict[str, Any] = {"kind": "evaluate", "model": "ft:x", "data": {"test": FILE}}
PREDICT: dict[str, Any] = {"kind": "batch_predict", "model": "ft:x", "data": {"inputs": FILE}}


def classifier(**fields: Any) -> Task:
    fitted = {"problem": "single_label", "labels": ["bad", "good"], "pair": False}
    return TASKS["text-classification"].model_validate(fitted | fields)


def evaluate(**fields: Any) -> Evaluate:
    spec = parse_spec(EVALUATE | fields)
    assert isinstance(spec, Evaluate)
    return spec


def predict(data: dict[str, Any] | None = None, **fields: Any) -> BatchPredict:
    spec = parse_spec({**PREDICT, "data": PREDICT["data"] | (data or {})} | fields)
    assert isinstance(spec, BatchPredict)
    return spec


def test_the_model_says_what_the_task_is():
    assert evaluate().knowing({"model": classifier()}).known_task == classifier()
    assert predict(task="fill-mask").knowing({}).known_task.name() == "fill-mask"


def test_a_stored_spec_knows_the_same():
    named = evaluate(task="text-classification").knowing({"model": classifier()})
    again = parse_spec(evaluate(task="text-classification").model_dump(mode="json"))
    assert isinstance(again, Evaluate)
    assert again.knowing({"model": classifier()}) == named


@pytest.mark.parametrize(
    ("fields", "tasks", "param", "code"),
    [
        ({}, {}, "task", "task_missing"),
        ({"task": "fill-mask"}, {"model": classifier()}, "task", "model_does_not_fit"),
        (
            {"task": {"kind": "text-classification", "threshold": 0.9}},
            {"model": classifier()}, "task.threshold", "model_does_not_fit",
        ),
        ({"revision": "main"}, {"model": classifier()}, "revision", "revision_not_found"),
        ({"parameters": {"top_k": 0}}, {"model": classifier()}, "parameters.top_k", "invalid_spec"),
        ({"parameters": {"oops": 1}}, {"model": classifier()}, "parameters.oops", "invalid_spec"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_names_its_field(fields, tasks, param, code):
    with pytest.raises(InvalidSpec) as caught:
        predict(**fields).knowing(tasks)
    assert caught.value.param == param
    assert code in {caught.value.error_code, "invalid_spec"}
    assert caught.value.message.startswith(param)


def test_figures_take_options_only_where_answers_are_written():
    with pytest.raises(InvalidSpec) as caught:
        evaluate(parameters={"top_k": 1}).knowing({"model": classifier()})
    assert caught.value.error_code == "parameters_not_possible"
    writer = TASKS["summarization"].model_validate({})
    spec = evaluate(parameters={"num_beams": 2}).knowing({"model": writer})
    assert spec.parameters == {"num_beams": 2}


@pytest.mark.parametrize(
    "body",
    [
        EVALUATE | {"suffix": "x"},
        EVALUATE | {"runtime": {"seeds": 3}},
        EVALUATE | {"optimization": {"epochs": 1}},
        EVALUATE | {"data": {"test": FILE, "split": {"seed": 1}}},
        PREDICT | {"runtime": {"keep_checkpoints": 3}},
        PREDICT | {"data": {"inputs": {"source": FILE, "target": FILE}}},
        PREDICT | {"worst": 1},
    ],
)
def test_settings_that_would_do_nothing_are_refused(body):
    with pytest.raises(InvalidSpec):
        parse_spec(body)


def test_columns_that_are_kept():
    spec = predict().knowing({"model": classifier()})
    assert spec.kept_columns(["id", "text"], "f") == ["id"]
    assert spec.kept_columns(["text"], "f") == []
    again = parse_spec(spec.model_dump(mode="json"))
    assert isinstance(again, BatchPredict)
    assert again.kept_columns(["text"], "f") == [], "the default is not a wish, also once stored"
    named = predict({"keep": ["text"]}).knowing({"model": classifier()})
    assert named.kept_columns(["id", "text"], "f") == ["text"]
    for name, code in (("nope", "column_not_found"), ("answer", "reserved_column")):
        asking = predict({"keep": ["text", name]}).knowing({"model": classifier()})
        with pytest.raises(InvalidData) as caught:
            asking.check_set("data.inputs", ["text", "answer"], [], "f")
        assert caught.value.error_code == code
        assert caught.value.param == "data.keep.1"


def test_chunks_grow_with_the_file_and_stay_small_where_answers_are_written():
    spec = predict().knowing({"model": classifier()})
    assert [spec.rows_a_chunk(rows) for rows in (1, 25_600, 100_000, 5_000_000)] == [
        256, 256, 1_000, 16_384,
    ]  # fmt: skip
    writer = TASKS["text-generation"].model_validate({})
    assert predict().knowing({"model": writer}).rows_a_chunk(10) == 32
    assert predict(chunk_rows=7).rows_a_chunk(10_000) == 7


def test_only_trainings_leave_models():
    for kind, spec in SPECS.items():
        assert makes_model(kind) == issubclass(spec, ModelSpec)
    assert not makes_model("evaluate")
    assert not makes_model("nonsense")
    assert evaluate().kept_checkpoints is None
    with pytest.raises(InvalidSpec, match="trains nothing"):
        parse_training(EVALUATE)


def base(**config: Any) -> Task:
    task = TASKS["text-classification"].model_validate({})
    return task.as_base({"architectures": ["BertForSequenceClassification"], **config})


def test_the_head_of_a_base_model_says_what_its_labels_are():
    named = {"10": "k", "2": "c", "0": "a", "1": "b"} | {str(n): f"l{n}" for n in range(3, 10)}
    found: Any = base(id2label=named)
    assert found.labels == ["a", "b", "c", *(f"l{n}" for n in range(3, 10)), "k"]
    assert found.problem == "single_label"
    assert base(id2label={"0": "score"}).model_dump()["problem"] == "regression"
    several = base(id2label={"0": "a", "1": "b"}, problem_type="multi_label_classification")
    assert several.model_dump()["problem"] == "multi_label"


@pytest.mark.parametrize(
    ("task", "config", "param"),
    [
        ({}, {"architectures": ["BertModel"]}, "model"),
        ({}, {"architectures": ["BertForSequenceClassification"]}, "task.labels"),
        (
            {"labels": ["a", "b", "c"]},
            {"architectures": ["BertForSequenceClassification"]}, "task.labels",
        ),
    ],
)  # fmt: skip
def test_a_head_that_says_too_little_is_refused(task, config, param):
    with pytest.raises(InvalidSpec) as caught:
        TASKS["text-classification"].model_validate(task).as_base(config)
    assert caught.value.param == param


def test_kinds_of_spans_are_read_off_labels_in_our_order():
    task = TASKS["token-classification"].model_validate({})
    labels = ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    found: Any = task.as_base({"id2label": {str(at): name for at, name in enumerate(labels)}})
    assert found.entities == ["ORG", "PER"]
    with pytest.raises(InvalidSpec):
        task.as_base({"id2label": {"0": "B-PER", "1": "I-PER", "2": "O"}})
    with pytest.raises(InvalidSpec):
        task.as_base({})
