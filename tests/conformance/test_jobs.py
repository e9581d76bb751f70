"""Every task as a whole job, from its own example.jsonl: trained, drained and resumed, saved, served."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

from app.adapt.answering import decode_answers, parse_parameters
from app.adapt.plugins import TASKS
from app.serving.engine import load_model
from app.serving.predictor import ModelRef
from app.spec.job import parse_spec
from tests.tiny import make_base_folder
from tests.trainer_child import TRAIN_ID, TinyJob, references, series
from workers.protocol import Event, FinishedEvent
from workers.recipes import run_recipe
from workers.training.loop import Drained

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


@pytest.fixture(params=TASKS.kinds)
def job(request, tmp_path) -> TinyJob:
    """A job of the task on its own examples, with a base model of the kind that it asks for."""
    kind = request.param
    job = TinyJob(tmp_path)
    module = importlib.import_module(TASKS[kind].__module__)
    examples = Path(str(module.__file__)).with_name("example.jsonl")
    shutil.copy(examples, job.file)
    base = tmp_path / "bases" / "tiny"
    shutil.rmtree(base)
    texts = [
        text
        for line in examples.read_text(encoding="utf-8").splitlines()
        for text in texts_in(json.loads(line))
    ]
    make_base_folder(base, TASKS[kind].architecture, texts=texts)
    job.optimization |= {"batch_size": 2, "epochs": 2}
    job.runtime |= {"evaluate_every": 2, "checkpoint_every": 100}
    job.task = kind
    return job


def texts_in(value: object) -> list[str]:
    """Return every string in a row."""
    if isinstance(value, str):
        return [value]
    inner = list(value.values()) if isinstance(value, dict) else value
    return [t for item in inner for t in texts_in(item)] if isinstance(inner, list) else []


def run(
    job: TinyJob, events: list[Event], checkpoints=(), *, should_drain: bool = False
) -> FinishedEvent:
    spec = {**job.spec(), "data": {"train": TRAIN_ID, "validation": TRAIN_ID, "test": TRAIN_ID}}
    assignment = job.assignment(checkpoints)
    return run_recipe(assignment, parse_spec(spec), events.append, lambda: should_drain)


def test_a_job_ends_the_same_however_often_it_was_stopped(job):
    undisturbed: list[Event] = []
    reference = run(job, undisturbed)
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished = run(job, seen, references(seen), should_drain=True)
        except Drained:
            continue
    for name in ("model.safetensors",):
        assert (finished.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    assert series(seen) == series(undisturbed)
    assert finished.metrics == reference.metrics


def test_what_a_job_made_answers(job):
    finished = run(job, [])
    task = TASKS[job.task]
    metric, _ = task.model_validate(finished.manifest["facts"]["task"]).primary_metric()
    assert f"test/{metric}" in finished.metrics
    ref = ModelRef(
        finished.manifest["facts"]["model_id"], finished.folder, finished.manifest_sha256, job.task
    )
    served = load_model(ref)
    parameters = parse_parameters(served.task, {})
    asked = [served.task.parse_input(served.task.example_input(), index) for index in range(2)]
    encoded = served.encode(asked, parameters)
    answers = decode_answers(served.task, served.answer(encoded, parameters), encoded, parameters)
    assert len(answers) == 2
    assert answers[0] == answers[1]
    json.dumps(answers, allow_nan=False)
    assert "## How to call it" in (finished.folder / "README.md").read_text()
