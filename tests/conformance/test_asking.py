"""Every task as a model that jobs ask: judged by its own example.jsonl, and answering it row by row."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.adapt.answering import decode_answers, parse_parameters
from app.adapt.dataset import read_dataset
from app.adapt.labelled import prepare_labelled
from app.adapt.plugins import TASKS, AnyLoss
from app.serving.engine import load_model
from app.serving.predictor import ModelRef
from app.spec.evaluate import LabelledData
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.conformance.test_jobs import texts_in
from tests.tiny import make_task_folder
from tests.trainer_child import TRAIN_ID
from workers.protocol import Assignment, DoneEvent, Event, InputFile
from workers.recipes import run_recipe
from workers.training.evaluate import Stage, evaluate

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")
MODEL = "ft:asked"


class Asked:
    """A finished model of random weights, and its task's own examples."""

    def __init__(self, kind: str, folder: Path) -> None:
        module = importlib.import_module(TASKS[kind].__module__)
        self.file = Path(str(module.__file__)).with_name("example.jsonl")
        self.rows = [json.loads(line) for line in self.file.read_text("utf-8").splitlines()]
        self.folder = folder
        dataset = read_dataset(self.file, self.file.name, max_rows=1000)
        data = LabelledData(test=TRAIN_ID)
        unfitted = TASKS[kind].model_validate({})
        self.labelled = prepare_labelled(unfitted, data, dataset, is_fitted=False)
        self.task = self.labelled.task
        config = self.task.model_dump(mode="json")
        if "decoding" in config:
            config["decoding"] |= {"max_new_tokens": 4, "num_beams": 1}
        texts = [text for row in self.rows for text in texts_in(row)]
        self.model = folder / "model"
        _, self.digest = make_task_folder(
            self.model, None, model_id=MODEL, task=config, texts=texts
        )
        self.task = TASKS[kind].model_validate(config)

    def run(self, spec: dict[str, Any], events: list[Event]) -> DoneEvent:
        """Do one job with the examples as its file."""
        run_folder = self.folder / f"run-{spec['kind']}"
        run_folder.mkdir()
        file = InputFile(
            id=TRAIN_ID, filename="example.jsonl", path=self.file, sha256=sha256_of(self.file)
        )
        assignment = Assignment(
            job_id="job-tiny", epoch=1, spec=spec, files={TRAIN_ID: file}, models={MODEL: self.model},
            folder=run_folder, hub=False, lease_ttl_s=60.0,
        )  # fmt: skip
        done = run_recipe(assignment, parse_spec(spec), events.append, lambda: False)
        assert isinstance(done, DoneEvent)
        return done


@pytest.fixture(params=TASKS.kinds)
def asked(request, tmp_path) -> Asked:
    return Asked(request.param, tmp_path)


def test_a_model_is_judged(asked):
    events: list[Event] = []
    done = asked.run({"kind": "evaluate", "model": MODEL, "data": {"test": TRAIN_ID}}, events)
    report = json.loads(json.dumps(done.report, allow_nan=False))
    judged = report["evaluation"]["test"]
    name, _ = asked.task.primary_metric()
    assert name in judged["metrics"]
    assert name in judged["intervals"]
    assert report["data"]["test"]["usable"] == len(asked.rows)
    rows = {example.row for example in asked.labelled.examples}
    worst = report["worst"]
    assert worst, "every task's examples have rows that can be worst"
    assert {row["row"] for row in worst} <= rows
    assert {"row", "input", "expected", "answered", "loss"} <= worst[0].keys()
    scores = [
        key for key in worst[0] if key not in {"row", "input", "expected", "answered", "loss"}
    ]
    if scores:
        values = [row[scores[0]] for row in worst]
        assert values == sorted(values)
    else:
        losses = [row["loss"] for row in worst]
        assert losses == sorted(losses, reverse=True)


def test_the_loss_of_a_set_is_that_of_its_rows(asked):
    served = load_model(ModelRef(MODEL, asked.model, asked.digest, asked.task.name()))
    losses = [TypeAdapter(AnyLoss).validate_python(loss) for loss in asked.task.default_losses()]
    tokenizer = served._tokenizers.first
    stage = Stage(
        asked.task, served._network, losses, tokenizer, tokenizer.pad_token_id,
        served._device, "fp32",
    )  # fmt: skip
    encoded = served._tokenizers.encode(asked.task, asked.labelled.examples, 32)
    total, units = 0.0, 0

    class Sum:
        def recall(self, number) -> None:
            del number

        def scored(self, number, seen, items) -> None:
            nonlocal total, units
            for row, item in zip(seen.rows, items, strict=True):
                loss = asked.task.row_loss(row, item)
                total += loss * item.units
                units += item.units

        def written(self, number, seen, items) -> None:
            del number, seen, items

    result = evaluate(stage, encoded, 64, watch=Sum())
    if getattr(asked.task, "form", None) == "pairs":
        pytest.skip("pairs are learned against each other: a row by itself has 1 - cos instead")
    assert total / units == pytest.approx(result.metrics["loss"], rel=1e-5)


def test_every_row_is_answered(asked):
    events: list[Event] = []
    spec = {"kind": "batch_predict", "model": MODEL, "data": {"inputs": TRAIN_ID}, "chunk_rows": 3}
    done = asked.run(spec, events)
    (output,) = done.outputs
    assert output.bytes == output.path.stat().st_size
    assert output.sha256 == sha256_of(output.path)
    lines = [json.loads(line) for line in output.path.read_text("utf-8").splitlines()]
    assert [line["row"] for line in lines] == list(range(1, len(asked.rows) + 1))
    served = load_model(ModelRef(MODEL, asked.model, asked.digest, asked.task.name()))
    options = parse_parameters(asked.task, {})
    columns = asked.task.input_columns(list(asked.rows[0]), {}, "example.jsonl")
    for line, row in zip(lines, asked.rows, strict=True):
        value = asked.task.input_value({role: row[name] for role, name in columns.items()})
        encoded = served.encode([asked.task.parse_input(value, 0)], options)
        (wanted,) = decode_answers(asked.task, served.answer(encoded, options), encoded, options)
        assert alike(line["answer"], json.loads(json.dumps(wanted)))


def alike(ours: Any, theirs: Any) -> bool:
    """Say whether two answers are the same but for the last digits of their numbers."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(alike(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    return ours == (pytest.approx(theirs, abs=1e-4) if isinstance(ours, float) else theirs)
