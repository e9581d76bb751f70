"""`evaluate` and `batch_predict` in the real trainer: whole, killed, drained and damaged."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.adapt.plugins import TASKS
from app.errors import InvalidData, InvalidRequest, InvalidSpec
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.tiny import make_base_folder, make_finished_folder, make_generator_folder
from tests.trainer_child import (
    SENTENCES,
    TRAIN_ID,
    TinyJob,
    TrainerChild,
    references,
    write_rows,
)
from workers.protocol import (
    Assignment,
    CheckpointEvent,
    CheckpointRef,
    DoneEvent,
    Drain,
    DrainedEvent,
    Event,
    FinishedEvent,
    InputFile,
    LogEvent,
    MetricsEvent,
    PhaseEvent,
    ProgressEvent,
    QuarantineEvent,
    ResolvedEvent,
    SourceCheckpoint,
)
from workers.recipes import memory, run_recipe
from workers.training.loop import Drained

MODEL = "ft:tiny:test:0000000000"
ROWS = 60


class Asking:
    """Jobs that ask one tiny model about one file; each run has a folder of its own."""

    def __init__(self, folder: Path, rows: int = ROWS) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.model = folder / "model"
        make_finished_folder(self.model, texts=(*SENTENCES, "0 1 2 3 4 5 6 7 8 9"))
        self.file = write_rows(folder / "rows.jsonl", rows)
        self.filename = "rows.jsonl"
        self.runs = 0

    def spec(self, kind: str, data: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        name = "test" if kind == "evaluate" else "inputs"
        made: dict[str, Any] = {
            "kind": kind, "model": MODEL, "data": {name: TRAIN_ID, **(data or {})},
        }  # fmt: skip
        if kind == "batch_predict":
            made["chunk_rows"] = 7
        return made | {"max_batch_tokens": 64} | fields

    def assignment(self, spec: dict[str, Any], checkpoints: list[CheckpointRef]) -> Assignment:
        self.runs += 1
        folder = self.folder / "runs" / f"e{self.runs:04d}"
        folder.mkdir(parents=True)
        file = InputFile(
            id=TRAIN_ID, filename=self.filename, path=self.file, sha256=sha256_of(self.file)
        )
        return Assignment(
            job_id="job-tiny", epoch=self.runs, spec=spec, files={TRAIN_ID: file},
            models={MODEL: self.model}, checkpoints=checkpoints, folder=folder,
            model_dirs=[self.folder / "bases"], hub=False, lease_ttl_s=60.0,
        )  # fmt: skip

    def run(
        self,
        spec: dict[str, Any],
        seen: list[Event],
        should_drain: Callable[[], bool] = lambda: False,
    ) -> DoneEvent:
        """Do a run in this process, going on for those whose events are in `seen`."""
        assignment = self.assignment(spec, references(seen))
        done = run_recipe(assignment, parse_spec(spec), seen.append, should_drain)
        assert isinstance(done, DoneEvent)
        return done

    def write(self, *rows: Any, name: str = "rows.jsonl") -> None:
        self.file = self.folder / name
        self.filename = name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        self.file.write_text("\n".join(lines) + "\n")


@pytest.fixture
def asking(tmp_path, one_thread_and_no_traces) -> Asking:
    return Asking(tmp_path)


@pytest.fixture
def start() -> Iterator[Callable[[], TrainerChild]]:
    children: list[TrainerChild] = []

    def make() -> TrainerChild:
        children.append(TrainerChild())
        return children[-1]

    yield make
    for child in children:
        child.close()


def lines(done: DoneEvent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.outputs[0].path.read_text().splitlines()]


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


# --- batch_predict ---


def test_every_row_has_its_line(asking):
    seen: list[Event] = []
    done = asking.run(asking.spec("batch_predict", parameters={"top_k": 1}), seen)
    found = lines(done)
    assert [line["row"] for line in found] == list(range(1, ROWS + 1))
    assert all(len(line["answer"]["scores"]) == 1 for line in found)
    assert [event.phase for event in of(seen, PhaseEvent)] == [
        "validating", "loading", "predicting", "saving",
    ]  # fmt: skip
    assert [event.step for event in of(seen, CheckpointEvent)] == [*range(7, ROWS, 7), ROWS]
    progress = of(seen, ProgressEvent)
    assert (progress[-1].step, progress[-1].percent, progress[-1].unit) == (ROWS, 100.0, "row")
    (resolved,) = of(seen, ResolvedEvent)
    assert resolved.spec["task"]["labels"] == ["bad", "good"]
    assert resolved.spec["chunk_rows"] == 7
    assert "auto" not in json.dumps([resolved.spec["runtime"], resolved.spec["max_batch_tokens"]])
    assert done.report["answered"] == done.report["rows"] == ROWS
    assert done.report["tokens"] > ROWS
    (output,) = done.outputs
    assert (output.filename, output.purpose) == ("rows.answers.jsonl", "batch_output")
    assert output.summary is not None
    assert output.summary["rows"] == ROWS


def test_drained_after_every_chunk_the_bytes_are_the_same(asking):
    spec = asking.spec("batch_predict")
    undisturbed = asking.run(spec, [])
    seen: list[Event] = []
    done = None
    while done is None:
        before = len(of(seen, CheckpointEvent))
        try:
            done = asking.run(
                spec, seen, lambda: len(of(seen, CheckpointEvent)) > before  # noqa: B023 - called within
            )  # fmt: skip
        except Drained:
            assert len(of(seen, CheckpointEvent)) == before + 1
    starts = [event.resumed_from_step for event in of(seen, ResolvedEvent)]
    assert starts == [None, *range(7, ROWS, 7), ROWS][: len(starts)]
    assert done.outputs[0].sha256 == undisturbed.outputs[0].sha256
    assert done.report == undisturbed.report


@pytest.mark.faults
@pytest.mark.parametrize(
    ("kind", "rows", "most"), [("batch_predict", 400, 20), ("evaluate", 2000, 1)]
)
def test_killed_anywhere_it_ends_with_the_same_result(kind, rows, most, tmp_path, start):
    asking = Asking(tmp_path, rows=rows)
    spec = asking.spec(kind)

    def run(seen: list[Event], until: Callable[[Event], bool] | None = None) -> list[Event]:
        child = start()
        child.send(asking.assignment(spec, references(seen)))
        if until is None:
            child.until_end()
        else:
            child.until(until)
            child.kill()
        return child.seen

    reference = run([])[-1]
    assert isinstance(reference, DoneEvent), reference
    rng = random.Random(kind)  # noqa: S311 - where to kill
    seen: list[Event] = []
    for _ in range(2):
        count = rng.randint(0, most)

        def is_far(event: Event) -> bool:
            nonlocal left
            left = left - isinstance(event, CheckpointEvent | ProgressEvent)
            return left < 0

        left = count
        seen += run(seen, is_far)
    seen += run(seen)
    done = seen[-1]
    assert isinstance(done, DoneEvent), done
    assert [o.sha256 for o in done.outputs] == [o.sha256 for o in reference.outputs]
    assert done.report == reference.report
    if kind == "batch_predict":
        starts = [event.resumed_from_step for event in of(seen, ResolvedEvent)]
        assert any(starts[1:]), "some chunk was on record when it was killed"


def test_told_to_stop_over_the_pipe(tmp_path, start):
    asking = Asking(tmp_path, rows=3_000)
    first = start()
    first.send(asking.assignment(asking.spec("evaluate"), []))
    first.until(lambda event: isinstance(event, ProgressEvent))
    first.send(Drain())
    assert isinstance(first.until_end(), DrainedEvent)
    (kept,) = of(first.seen, CheckpointEvent)
    second = start()
    second.send(asking.assignment(asking.spec("evaluate"), references(first.seen)))
    done = second.until_end()
    assert isinstance(done, DoneEvent), done
    assert of(second.seen, ResolvedEvent)[0].resumed_from_step == kept.step
    undisturbed = start()
    undisturbed.send(asking.assignment(asking.spec("evaluate"), []))
    assert undisturbed.until_end() == done


def test_a_damaged_part_is_made_again(asking):
    spec = asking.spec("batch_predict")
    seen: list[Event] = []
    undisturbed = asking.run(spec, seen)
    parts = references(seen)
    damaged = next(part for part in parts if part.step == 21)
    (damaged.folder / "part.jsonl").write_text("nonsense")
    again: list[Event] = []
    assignment = asking.assignment(spec, parts)
    done = run_recipe(assignment, parse_spec(spec), again.append, lambda: False)
    assert isinstance(done, DoneEvent)
    assert [event.checkpoint_id for event in of(again, QuarantineEvent)] == [damaged.id]
    assert of(again, ResolvedEvent)[0].resumed_from_step == 14
    assert of(again, CheckpointEvent)[0].step == 21
    assert done.outputs[0].sha256 == undisturbed.outputs[0].sha256


def test_rows_that_cannot_be_used_have_an_error_in_their_place(asking):
    asking.write(
        {"text": "a fine film", "id": "x1"},
        "{broken",
        {"text": "", "id": 3},
        {"text": "a dull film"},
    )
    found = lines(asking.run(asking.spec("batch_predict"), seen := []))
    assert [line["row"] for line in found] == [1, 2, 3, 4]
    assert [line.get("id") for line in found] == ["x1", None, 3, None]
    assert [line.get("error", {}).get("code") for line in found] == [
        None, "invalid_json", "no_input", None,
    ]  # fmt: skip
    assert found[2]["error"]["column"] == "text"
    assert "answer" not in found[1]
    (said,) = [e.message for e in of(seen, LogEvent) if e.level == "warning"]
    assert "row 2" in said
    assert "2 rows are answered by an error" in said


def test_they_are_skipped_or_fail_the_job_where_that_is_asked_for(asking):
    asking.write({"text": "a fine film"}, {"text": ""}, {"text": "a dull film"})
    skipped = asking.run(asking.spec("batch_predict", {"on_bad_rows": "skip"}), [])
    assert [line["row"] for line in lines(skipped)] == [1, 3]
    assert skipped.report["errors"] == {"no_input": 1}
    seen: list[Event] = []
    with pytest.raises(InvalidData) as caught:
        asking.run(asking.spec("batch_predict", {"on_bad_rows": "fail"}), seen)
    assert caught.value.details["row"] == 2
    assert caught.value.param == "data.inputs"
    assert not of(seen, CheckpointEvent), "nothing is answered first"


@pytest.mark.parametrize("name", ["rows.csv", "rows.txt", "rows.json"])
def test_other_formats(asking, name):
    rows = {
        "rows.csv": ["id,text", "7,a fine film", "8,a dull film"],
        "rows.txt": ["a fine film", "", "a dull film"],
        "rows.json": ['[{"id": 7, "text": "a fine film"}, {"id": 8, "text": "a dull film"}]'],
    }[name]
    asking.write(*rows, name=name)
    found = lines(asking.run(asking.spec("batch_predict"), []))
    assert len(found) == 2
    assert all("answer" in line for line in found)
    if name != "rows.txt":
        assert [str(line["id"]) for line in found] == ["7", "8"]


def test_a_file_of_which_no_row_is_usable(asking):
    asking.write({"text": ""}, {"text": None})
    with pytest.raises(InvalidData, match="no usable row"):
        asking.run(asking.spec("batch_predict"), [])


def test_an_answer_that_is_no_number_is_an_error_of_its_row(asking, monkeypatch):
    from app.adapt.tasks.text_classification.config import TextClassification

    decode = TextClassification.decode

    def broken(self, scores, encoded, parameters):
        if encoded.row == 3:
            return {"score": float("nan")}
        return decode(self, scores, encoded, parameters)

    monkeypatch.setattr(TextClassification, "decode", broken)
    found = lines(asking.run(asking.spec("batch_predict"), []))
    assert found[2]["error"]["code"] == "not_finite"
    assert sum("error" in line for line in found) == 1


# --- evaluate ---


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


# --- base models and checkpoints ---


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


def test_a_row_that_the_chat_template_refuses_is_an_error_of_that_row(asking):
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m['content'] }}{% endfor %}"
    )
    task = TASKS["text-generation"].model_validate(
        {"form": "messages", "chat_template": template, "decoding": {"max_new_tokens": 2}}
    )
    make_generator_folder(
        asking.model, None, model_id=MODEL, architecture="decoder",
        task=task.model_dump(mode="json"), texts=SENTENCES,
    )  # fmt: skip
    said = [{"role": "user", "content": "a fine film"}]
    asking.write(
        {"messages": said},
        {"messages": [{"role": "system", "content": "x"}, *said]},
        {"messages": said},
    )
    found = lines(asking.run(asking.spec("batch_predict"), []))
    assert [line.get("error", {}).get("code") for line in found] == [None, "chat_template", None]
    assert found[0]["answer"] == found[2]["answer"]


def test_wrong_options_name_their_field(asking):
    with pytest.raises(InvalidRequest) as caught:
        asking.run(asking.spec("batch_predict", parameters={"top_k": "many"}), [])
    assert caught.value.param == "parameters.top_k"
