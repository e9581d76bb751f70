"""Recurrent networks as models like any other: whole jobs from one, by every method, resumed and served."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.adapt.answering import decode_answers, parse_parameters
from app.adapt.plugins import METHODS, STUDENTS, TASKS
from app.adapt.student import Material
from app.errors import InvalidSpec
from app.serving.engine import load_model
from app.serving.predictor import ModelRef
from app.spec.job import parse_spec
from tests.trainer_child import SENTENCES, TRAIN_ID, TinyJob, references, series
from workers.protocol import Event, FinishedEvent, ResolvedEvent
from workers.recipes import run_recipe
from workers.training.loop import Drained

FITTING = (
    "text-classification",
    "token-classification",
    "question-answering",
    "sentence-similarity",
)
SIZES = {"embedding_size": 12, "hidden_size": 8, "num_layers": 2}


pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


def make_base(job: TinyJob, kind: str, texts: list[str]) -> None:
    base = job.folder / "bases" / "tiny"
    shutil.rmtree(base)
    base.mkdir()
    STUDENTS[kind].model_validate({"kind": kind, **SIZES}).make(base, Material(texts, 0))


@pytest.fixture
def job(tmp_path) -> TinyJob:
    """A job that tells good from bad, from a base model that is a BiLSTM of random weights."""
    job = TinyJob(tmp_path, learning_rate=0.01)
    make_base(job, "bilstm", [*SENTENCES, "0 1 2 3 4 5 6 7 8 9"])
    job.runtime |= {"baselines": False}
    return job


def run(
    job: TinyJob, events: list[Event], checkpoints=(), *, should_drain: bool = False, **fields: Any
) -> FinishedEvent:
    spec = {**job.spec(), "data": {"train": TRAIN_ID, "validation": TRAIN_ID}, **fields}
    assignment = job.assignment(checkpoints)
    return run_recipe(assignment, parse_spec(spec), events.append, lambda: should_drain)


def in_pieces(job: TinyJob, seen: list[Event], **fields: Any) -> FinishedEvent:
    while True:
        try:
            return run(job, seen, references(seen), should_drain=True, **fields)
        except Drained:
            continue


def answers_of(finished: FinishedEvent, inputs: list[Any]) -> list[Any]:
    facts = finished.manifest["facts"]
    ref = ModelRef(
        facts["model_id"], finished.folder, finished.manifest_sha256, facts["task"]["kind"]
    )
    served = load_model(ref)
    parameters = parse_parameters(served.task, {})
    asked = [served.task.parse_input(value, index) for index, value in enumerate(inputs)]
    encoded = served.encode(asked, parameters)
    return decode_answers(served.task, served.answer(encoded, parameters), encoded, parameters)


@pytest.fixture(params=["bilstm", "bigru"])
def model(request) -> dict[str, Any]:
    """A network that is made for the job, with the vectors of a model that is there."""
    return {"kind": request.param, "embeddings": "tiny", **SIZES}


def test_one_that_is_made_for_the_job_learns_and_is_served(job, model):
    job.optimization |= {"epochs": 8}
    finished = run(job, [], model=model)
    assert finished.metrics["validation/accuracy"] > 0.9
    config = json.loads((finished.folder / "config.json").read_text())
    assert (config["model_type"], config["id2label"]) == (
        "attune-recurrent",
        {"0": "bad", "1": "good"},
    )
    together = answers_of(finished, ["a fine film", "i hated it from start to end", "a fine film"])
    assert [answer["label"] for answer in together] == ["good", "bad", "good"]
    assert answers_of(finished, ["a fine film"])[0] == together[0] == together[2]


def test_a_stopped_job_makes_it_again_and_ends_with_the_same_bytes(job, model):
    job.optimization |= {"epochs": 1}
    undisturbed: list[Event] = []
    seen: list[Event] = []
    reference = run(job, undisturbed, model=model)
    finished = in_pieces(job, seen, model=model)
    name = "model.safetensors"
    assert (finished.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    assert series(seen) == series(undisturbed)


@pytest.mark.parametrize("method", [kind for kind in METHODS.kinds if kind != "lora"])
def test_every_method_adapts_one(job, method):
    job.optimization |= {"epochs": 1}
    finished = run(job, [], method={"kind": method})
    assert finished.report["trained_parameters"] > 0
    (answer,) = answers_of(finished, ["a fine film"])
    assert answer["label"] in {"good", "bad"}


def test_auto_stands_for_what_suits_it(job, model):
    job.optimization = {"max_steps": 2, "batch_size": 8}
    seen: list[Event] = []
    run(job, seen, model=model)
    (resolved,) = [event.spec for event in seen if isinstance(event, ResolvedEvent)]
    found = resolved["optimization"]
    assert (found["learning_rate"], found["epochs"]) == (1e-3, 20)


def test_lora_says_that_it_has_nothing_to_wrap(job):
    with pytest.raises(InvalidSpec, match="no linear layers in blocks; use full") as caught:
        run(job, [], method="lora")
    assert caught.value.param == "method"


def test_layers_are_frozen_and_kept_by_name(job):
    before = load_file(job.folder / "bases" / "tiny" / "model.safetensors")
    job.optimization |= {"epochs": 1}
    frozen = run(job, [], method={"kind": "full", "freeze": ["embeddings", "0"]})
    after = load_file(frozen.folder / "model.safetensors")
    for name, weight in before.items():
        is_frozen = name.startswith(("embeddings.", "layers.0."))
        assert torch.equal(weight, after[f"recurrent.{name}"]) == is_frozen, name
    mixed = run(job, [], transfer={"kind": "mixed", "layers": ["embeddings"]})
    assert mixed.metrics.keys() == frozen.metrics.keys()


def test_a_finished_one_is_a_source(job):
    """Its labels stay, so its head does; a job of other labels keeps all below the head."""
    first = run(job, [])
    base = job.folder / "bases" / "tiny"
    shutil.rmtree(base)
    shutil.copytree(first.folder, base)
    job.optimization |= {"learning_rate": 1e-9, "epochs": 1}
    again = run(job, [])
    assert again.metrics["validation/accuracy"] == pytest.approx(
        first.metrics["validation/accuracy"]
    )
    probed = run(
        job, [], method={"kind": "linear_probe", "layers": [0, -1], "poolings": ["mean", "max"]}
    )
    assert probed.report["trained_parameters"] == 2 * 2 * (12 + 16) + 2
    assert probed.metrics["validation/accuracy"] > 0.9


def taught(job: TinyJob, teacher: FinishedEvent, **fields: Any) -> FinishedEvent:
    """Distill a teacher; the student has its vocabulary and vectors."""
    plain = {key: value for key, value in job.spec().items() if key != "model"}
    data = {"train": TRAIN_ID, "validation": TRAIN_ID}
    spec = {**plain, "kind": "distill", "teacher": "ft:teacher", "data": data, **fields}
    assignment = job.assignment().model_copy(
        update={"models": {"ft:teacher": teacher.folder}, "cache": job.folder / "cache"}
    )
    return run_recipe(assignment, parse_spec(spec), [].append, lambda: False)


def test_one_teaches_another(job):
    job.optimization |= {"epochs": 8}
    teacher = run(job, [])
    sizes = {"embedding_size": 8, "hidden_size": 6}
    student = {"kind": "bigru", "vocabulary": "teacher", "embeddings": "teacher", **sizes}
    finished = taught(job, teacher, student=student)
    report = finished.report["distillation"]
    assert report["student"]["parameters"] < report["teacher"]["parameters"]
    assert report["kept"]["share"] > 0.9
    config = json.loads((finished.folder / "config.json").read_text())
    assert (config["cell"], config["embedding_size"]) == ("gru", 8)
    job.optimization |= {"epochs": 1}
    losses = [{"kind": "logit_mse"}, {"kind": "hidden_mse", "layers": [[0, 0], [1, 2]]}]
    assert taught(job, teacher, student=student, losses=losses).report["steps"] > 0
    with pytest.raises(InvalidSpec, match="attention of its networks, and there is no way to"):
        taught(job, teacher, student=student, losses=[{"kind": "attention_transfer"}])


@pytest.mark.parametrize("task", FITTING)
def test_every_fitting_task_from_its_own_examples(tmp_path, task):
    job = TinyJob(tmp_path)
    module = importlib.import_module(TASKS[task].__module__)
    shutil.copy(Path(str(module.__file__)).with_name("example.jsonl"), job.file)
    lines = job.file.read_text(encoding="utf-8").splitlines()
    texts = [json.dumps(json.loads(line), ensure_ascii=False) for line in lines]
    make_base(job, "bilstm", texts)
    job.task, job.optimization = task, {"batch_size": 2, "epochs": 1}
    finished = run(job, [])
    given = TASKS[task].model_validate({"kind": task}).example_input()
    answers = answers_of(finished, [given, given])
    assert answers[0] == answers[1]
    json.dumps(answers, allow_nan=False)


@pytest.mark.parametrize("task", sorted({*TASKS.kinds} - {*FITTING}))
def test_what_it_cannot_do_is_refused_by_name(tmp_path, task):
    job = TinyJob(tmp_path)
    module = importlib.import_module(TASKS[task].__module__)
    shutil.copy(Path(str(module.__file__)).with_name("example.jsonl"), job.file)
    make_base(job, "bilstm", list(SENTENCES))
    job.task, job.optimization = task, {"batch_size": 2, "epochs": 1}
    with pytest.raises(InvalidSpec, match=rf"attune-recurrent model cannot do {task}") as caught:
        run(job, [])
    assert caught.value.param == "model"
