"""`batch_predict` in the trainer: every row in its place, and what a resumed run makes."""

from __future__ import annotations

import json

import pytest

from app.adapt.plugins import TASKS
from app.adapt.tasks.text_classification.config import TextClassification
from app.errors import InvalidData, InvalidRequest
from app.spec.job import parse_spec
from tests.asked import MODEL, ROWS, Asking, lines, of
from tests.tiny import make_generator_folder
from tests.trainer_child import (
    SENTENCES,
    references,
)
from workers.protocol import (
    CheckpointEvent,
    DoneEvent,
    Event,
    LogEvent,
    PhaseEvent,
    ProgressEvent,
    QuarantineEvent,
    ResolvedEvent,
)
from workers.recipes import run_recipe
from workers.training.loop import Drained


@pytest.fixture
def asking(tmp_path, one_thread_and_no_traces) -> Asking:
    return Asking(tmp_path)


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
    decode = TextClassification.decode

    def broken(self, scores, encoded, parameters):
        if encoded.row == 3:
            return {"score": float("nan")}
        return decode(self, scores, encoded, parameters)

    monkeypatch.setattr(TextClassification, "decode", broken)
    found = lines(asking.run(asking.spec("batch_predict"), []))
    assert found[2]["error"]["code"] == "not_finite"
    assert sum("error" in line for line in found) == 1
    for rule in ("skip", "fail"):  # the row is good
        again = asking.run(asking.spec("batch_predict", {"on_bad_rows": rule}), [])
        assert lines(again) == found


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
    skipped = asking.run(asking.spec("batch_predict", {"on_bad_rows": "skip"}), [])
    assert [line["row"] for line in lines(skipped)] == [1, 3]
    with pytest.raises(InvalidData, match="row 2: the model's chat template refuses") as caught:
        asking.run(asking.spec("batch_predict", {"on_bad_rows": "fail"}), [])
    assert caught.value.error_code == "chat_template"


def test_wrong_options_name_their_field(asking):
    with pytest.raises(InvalidRequest) as caught:
        asking.run(asking.spec("batch_predict", parameters={"top_k": "many"}), [])
    assert caught.value.param == "parameters.top_k"
