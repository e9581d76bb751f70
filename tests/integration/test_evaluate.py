"""`evaluate` in the trainer: figures, the worst rows, labels that are not known, base models."""

from __future__ import annotations

import json
import math
import shutil
from typing import Any

import pytest

from app.adapt.plugins import TASKS
from app.errors import InvalidData, InvalidSpec
from app.spec.job import parse_spec
from tests.asked import MODEL, ROWS, Asking, lines, of
from tests.tiny import make_base_folder, make_generator_folder
from tests.trainer_child import (
    SENTENCES,
    TinyJob,
)
from workers.protocol import (
    CheckpointEvent,
    DoneEvent,
    Event,
    FinishedEvent,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ResolvedEvent,
    SourceCheckpoint,
)
from workers.recipes import memory, run_recipe
from workers.training.loop import Drained


@pytest.fixture
def asking(tmp_path, one_thread_and_no_traces) -> Asking:
    return Asking(tmp_path)


def test_a_model_that_is_judged(asking):
    seen: list[Event] = []
    done = asking.run(asking.spec("evaluate", worst=5), seen)
    assert [event.phase for event in of(seen, PhaseEvent)] == [
        "validating", "loading", "encoding", "evaluating",
    ]  # fmt: skip
    judged = done.report["evaluation"]["test"]
    matrix = judged["confusion"]["matrix"]
    assert sum(map(sum, matrix)) == ROWS
    right = (matrix[0][0] + matrix[1][1]) / ROWS
    assert judged["metrics"]["accuracy"] == pytest.approx(right)
    low, high = judged["intervals"]["accuracy"]
    assert low <= right <= high
    (metrics,) = of(seen, MetricsEvent)
    assert metrics.values["test/accuracy"] == judged["metrics"]["accuracy"]
    assert f"accuracy {right:.4f} on {ROWS} rows" == done.message
    assert done.outputs == []
    rows = [json.loads(line) for line in asking.file.read_text().splitlines()]
    worst = done.report["worst"]
    assert len(worst) == 5
    for entry in worst:
        row = rows[entry["row"] - 1]
        assert entry["input"] == {"text": row["text"]}
        assert entry["expected"] == row["label"]
        assert entry["answered"]["label"] != row["label"], "the worst of these are wrong"


def test_the_loss_of_a_worst_row_is_that_of_its_answer(asking):
    (entry,) = asking.run(asking.spec("evaluate", worst=1), []).report["worst"]
    scores = {each["label"]: each["score"] for each in entry["answered"]["scores"]}
    assert entry["loss"] == pytest.approx(-math.log(scores[entry["expected"]]), rel=1e-2)


def test_nothing_is_shown_where_nothing_is_asked_for(asking):
    assert asking.run(asking.spec("evaluate", worst=0), []).report["worst"] == []


def test_an_evaluation_goes_on_where_it_was(asking, monkeypatch):
    monkeypatch.setattr(memory, "EVERY_S", 0.0)
    spec = asking.spec("evaluate")
    undisturbed = asking.run(spec, [])
    seen: list[Event] = []
    done = None
    runs = 0
    while done is None:
        runs += 1
        before = len(of(seen, CheckpointEvent))
        try:
            done = asking.run(
                spec, seen, lambda: len(of(seen, CheckpointEvent)) > before + 3  # noqa: B023 - called within
            )  # fmt: skip
        except Drained:
            continue
    assert runs > 2
    assert done == undisturbed


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_written_answers_are_judged_and_go_on_too(asking, tmp_path, monkeypatch, architecture):
    kind = "summarization" if architecture == "encoder_decoder" else "text-generation"
    decoding = {"max_new_tokens": 4, "do_sample": True}
    task = TASKS[kind].model_validate({"decoding": decoding} | (
        {"form": "completion"} if kind == "text-generation" else {}))  # fmt: skip
    make_generator_folder(
        asking.model, None, model_id=MODEL, architecture=architecture,
        task=task.model_dump(mode="json"), texts=SENTENCES,
    )  # fmt: skip
    names = ("document", "summary") if kind == "summarization" else ("prompt", "completion")
    pairs = zip(SENTENCES[:12], reversed(SENTENCES[-12:]), strict=True)
    asking.write(*(dict(zip(names, pair, strict=True)) for pair in pairs))
    monkeypatch.setattr(memory, "EVERY_S", 0.0)
    spec = asking.spec("evaluate", worst=3, parameters={"max_new_tokens": 3})
    undisturbed = asking.run(spec, [])
    seen: list[Event] = []
    done = None
    while done is None:
        before = len(of(seen, CheckpointEvent))
        try:
            done = asking.run(
                spec, seen, lambda: len(of(seen, CheckpointEvent)) > before + 1  # noqa: B023 - called within
            )  # fmt: skip
        except Drained:
            continue
    assert done == undisturbed
    worst = done.report["worst"]
    assert len(worst) == 3
    assert all(entry["answered"] for entry in worst)
    if kind == "summarization":
        assert worst[0]["rougeL"] <= worst[-1]["rougeL"]


def test_a_label_that_the_model_does_not_know(asking):
    rows = [json.loads(line) for line in asking.file.read_text().splitlines()]
    rows[4]["label"] = rows[9]["label"] = "goood"
    asking.write(*rows)
    with pytest.raises(InvalidData) as caught:
        asking.run(asking.spec("evaluate"), [])
    assert caught.value.error_code == "unknown_label"
    assert caught.value.param == "data.test"
    assert [p["row"] for p in caught.value.details["problems"]["first"]] == [5, 10]
    assert "did you mean 'good'" in caught.value.message
    done = asking.run(asking.spec("evaluate", {"on_bad_rows": "skip"}), seen := [])
    assert done.report["data"]["test"]["usable"] == ROWS - 2
    assert done.report["data"]["test"]["problems"]["by_code"] == {"unknown_label": 2}
    assert any("2 rows are skipped" in event.message for event in of(seen, LogEvent))


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{"text": "a fine film"}], "column_not_found"),
        ([{"words": "a fine film", "label": "good"}], "column_not_found"),
        ([{"text": "a fine film", "label": None}], "empty_label"),
        ([{"text": "", "label": "good"}], "empty_text"),
    ],
)
def test_rows_that_cannot_be_judged_by(asking, rows, code):
    asking.write(*rows)
    with pytest.raises(InvalidData) as caught:
        asking.run(asking.spec("evaluate"), [])
    assert caught.value.error_code == code


def test_the_length_is_the_one_that_the_model_was_trained_with(asking):
    facts = json.loads((asking.model / "attune.json").read_text())
    (asking.model / "attune.json").write_text(json.dumps(facts | {"max_length": 5}))
    done = asking.run(asking.spec("evaluate"), [])
    assert done.report["data"]["test"]["too_long"] == {"max_length": 5, "examples": ROWS}
    assert all(
        line["answer"]["truncated"] for line in lines(asking.run(asking.spec("batch_predict"), []))
    )


def test_a_base_model_that_does_the_task_as_it_is(asking):
    base = asking.folder / "bases" / "judge"
    shutil.copytree(asking.model, base)
    spec = asking.spec("evaluate", model="judge", task="text-classification")
    ours = asking.run(asking.spec("evaluate"), []).report
    theirs = asking.run(spec, []).report
    assert theirs["task"]["labels"] == ["bad", "good"]
    assert theirs["evaluation"]["test"]["confusion"] == ours["evaluation"]["test"]["confusion"]
    answered = asking.run(
        asking.spec("batch_predict", model="judge", task="text-classification"), []
    )
    assert {line["answer"]["label"] for line in lines(answered)} <= {"bad", "good"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "task_missing"),
        ({"task": "text-classification"}, "model_does_not_fit"),
        ({"task": "question-answering"}, "model_does_not_fit"),
    ],
)
def test_a_base_model_that_does_not(asking, fields, code):
    make_base_folder(asking.folder / "bases" / "plain", "encoder")
    data: dict[str, Any] = {}
    if fields.get("task") == "question-answering":
        asking.write({"question": "what", "context": "a fine film", "answers": "fine"})
    with pytest.raises(InvalidSpec) as caught:
        asking.run(asking.spec("evaluate", data, model="plain", **fields), [])
    assert caught.value.error_code == code


def test_a_checkpoint_answers_as_the_model_that_it_became(tmp_path, one_thread_and_no_traces):
    job = TinyJob(tmp_path)
    events: list[Event] = []
    finished = run_recipe(job.assignment(), parse_spec(job.spec()), events.append, lambda: False)
    assert isinstance(finished, FinishedEvent)
    (resolved,) = of(events, ResolvedEvent)
    best = max((e for e in of(events, CheckpointEvent) if e.is_best), key=lambda e: e.step)
    asking = Asking(tmp_path / "asking")
    source = SourceCheckpoint(
        folder=best.folder, manifest_sha256=best.manifest_sha256, spec=resolved.spec
    )
    reports = []
    for model, found in (
        ("ckpt-1", {"sources": {"ckpt-1": source}}),
        (MODEL, {"models": {MODEL: finished.folder}}),
    ):
        spec = asking.spec("evaluate", model=model)
        assignment = asking.assignment(spec, []).model_copy(update=found)
        done = run_recipe(assignment, parse_spec(spec), [].append, lambda: False)
        assert isinstance(done, DoneEvent)
        reports.append(done.report)
    assert reports[0]["task"] == reports[1]["task"]
    assert reports[0]["evaluation"] == reports[1]["evaluation"]
