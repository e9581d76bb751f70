"""What a job may start from, which method it may choose, and with how many seeds, in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from safetensors.torch import load_file

from app.adapt.answering import decode_answers, parse_parameters
from app.errors import InvalidSpec
from app.serving.engine import load_model
from app.serving.predictor import ModelRef
from app.spec.job import parse_spec
from tests.tiny import make_model_folder
from tests.trainer_child import SENTENCES, TRAIN_ID, TinyJob, references, series
from workers.protocol import (
    CheckpointEvent,
    Event,
    FinishedEvent,
    LogEvent,
    ResolvedEvent,
    SourceCheckpoint,
)
from workers.recipes import run_recipe
from workers.training.loop import Drained

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


@pytest.fixture
def job(tmp_path) -> TinyJob:
    return TinyJob(tmp_path)


def run(
    job: TinyJob, events: list[Event] | None = None, *, drain: bool = False, checkpoints=(),
    sources: dict[str, SourceCheckpoint] | None = None, **fields: Any,
) -> FinishedEvent:  # fmt: skip
    """Run the job; with `drain`, it is asked to stop as soon as it trains in earnest."""
    assignment = job.assignment(checkpoints).model_copy(update={"sources": sources or {}})
    seen: list[Event] = [] if events is None else events
    begun = len(seen)

    def should_drain() -> bool:
        return drain and any(isinstance(event, ResolvedEvent) for event in seen[begun:])

    return run_recipe(assignment, parse_spec({**job.spec(), **fields}), seen.append, should_drain)


def run_in_pieces(job: TinyJob, seen: list[Event], **fields: Any) -> FinishedEvent:
    """Run the job, stopped after each step and resumed."""
    while True:
        try:
            return run(job, seen, drain=True, checkpoints=references(seen), **fields)
        except Drained:
            continue


def weights(finished: FinishedEvent) -> bytes:
    return (finished.folder / "model.safetensors").read_bytes()


def logs(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogEvent)]


def answers(finished: FinishedEvent, texts: list[str]) -> list[Any]:
    """Ask the finished model as the server does."""
    facts = finished.manifest["facts"]
    ref = ModelRef(
        facts["model_id"], finished.folder, finished.manifest_sha256, "text-classification"
    )
    served = load_model(ref)
    options = parse_parameters(served.task, {})
    asked = [served.task.parse_input(text, at) for at, text in enumerate(texts)]
    encoded = served.encode(asked, options)
    return decode_answers(served.task, served.answer(encoded, options), encoded, options)


# --- seeds ---


def test_the_best_of_several_seeds_becomes_the_model(job):
    job.runtime["seeds"] = 3
    seen: list[Event] = []
    finished = run(job, seen)
    spread = finished.report["seeds"]
    assert [each["seed"] for each in spread["runs"]] == [7, 8, 9]
    values = [each["value"] for each in spread["runs"]]
    assert finished.metrics["validation/accuracy"] == max(values)
    assert spread["mean"] == pytest.approx(sum(values) / 3)
    best = spread["runs"][values.index(max(values))]
    assert finished.report["best_step"] == best["best_step"]
    assert finished.report["steps"] == 3 * 18
    steps = [step for step, name in series(seen) if name == "train/loss"]
    assert sorted(steps) == list(range(1, 55))
    single = {}
    for seed in (7, 8, 9):
        job.runtime |= {"seeds": 1, "seed": seed}
        single[seed] = run(job)
    assert weights(finished) == weights(single[best["seed"]])
    assert values == [single[seed].metrics["validation/accuracy"] for seed in (7, 8, 9)]


@pytest.mark.parametrize("method", ["full", "lora", "lp_ft"])
def test_seeds_resume_exactly(job, method):
    job.runtime["seeds"] = 2
    job.optimization |= {"epochs": 1, "early_stopping": {"patience": 1}}
    undisturbed, seen = [], []
    reference = run(job, undisturbed, method=method)
    finished = run_in_pieces(job, seen, method=method)
    assert weights(finished) == weights(reference)
    assert series(seen) == series(undisturbed)
    assert finished.report["seeds"] == reference.report["seeds"]


# --- a method that is chosen ---


def test_the_method_that_does_best_goes_on(job):
    seen: list[Event] = []
    finished = run(job, seen, method={"kind": "auto", "budget": 0.5})
    trials = finished.report["trials"]
    assert [trial["method"] for trial in trials] == ["linear_probe", "lora", "full"]
    assert [trial["steps"] for trial in trials] == [0, 9, 9]
    assert all(0 <= trial["accuracy"] <= 1 and trial["seconds"] >= 0 for trial in trials)
    best = max(trials, key=lambda trial: trial["accuracy"])["method"]
    (resolved,) = [event for event in seen if isinstance(event, ResolvedEvent)]
    assert resolved.spec["method"]["kind"] == best
    assert resolved.spec["optimization"]["learning_rate"] == 1e-3
    assert f"Method auto goes on with {best}" in logs(seen)
    alone = run(job, method=best)
    assert weights(finished) == weights(alone), "trials leave no trace in the weights"


@pytest.mark.parametrize("candidate", ["full", "prompt"])
def test_a_choice_is_not_made_twice(job, candidate):
    job.optimization["epochs"] = 1
    auto = {"kind": "auto", "candidates": ["lora", candidate]}
    undisturbed, seen = [], []
    reference = run(job, undisturbed, method=auto)
    finished = run_in_pieces(job, seen, method=auto)
    assert weights(finished) == weights(reference)
    assert sum("goes on with" in line for line in logs(seen)) == 1
    kept = [{**trial, "seconds": 0} for trial in finished.report["trials"]]
    assert kept == [{**trial, "seconds": 0} for trial in reference.report["trials"]]


def test_a_candidate_that_does_not_fit_is_passed_over(job):
    rows = [json.loads(line) for line in job.file.read_text().splitlines()]
    tagged = [
        {"tokens": row["text"].split(), "tags": ["O"] * (len(row["text"].split()) - 1) + ["B-N"]}
        for row in rows
    ]
    job.file.write_text("\n".join(json.dumps(row) for row in tagged))
    job.optimization["epochs"] = 1
    candidates = [{"kind": "linear_probe", "layers": [0]}, "lora", "full"]
    auto = {"kind": "auto", "candidates": candidates}
    finished = run(job, task="token-classification", method=auto)
    probe, *others = finished.report["trials"]
    assert "leave layers" in probe["passed_over"]
    assert all("f1" in trial for trial in others)


def test_no_candidate_that_fits_is_an_error(job):
    rows = [json.loads(line) for line in job.file.read_text().splitlines()]
    job.file.write_text("\n".join(json.dumps({"text": row["text"]}) for row in rows))
    auto = {"kind": "auto", "candidates": ["linear_probe", "lp_ft"]}
    with pytest.raises(InvalidSpec, match="none of the candidates") as caught:
        run(job, task="fill-mask", method=auto)
    assert caught.value.param == "method.candidates"


# --- features of several encoders ---


@pytest.mark.parametrize("method", ["linear_probe", "lp_ft"])
def test_features_of_encoders_with_tokenizers_of_their_own(job, method):
    letters = " ".join(
        "abcdefghijklmnopqrstuvwxyz0123456789"
    )  # no words: other pieces, more of them
    make_model_folder(job.folder / "bases" / "letters", texts=[letters], hidden=16, seed=1)
    features = {"kind": "features", "models": ["letters"]}
    data = {"train": TRAIN_ID, "validation": TRAIN_ID}
    finished = run(job, method=method, transfer=features, data=data)
    config = json.loads((finished.folder / "config.json").read_text())
    assert [encoder["hidden_size"] for encoder in config["encoders"]] == [32, 16]
    assert load_file(finished.folder / "model.safetensors")["classifier.weight"].shape == (2, 48)
    lineage = [entry["id"] for entry in finished.manifest["facts"]["lineage"]]
    assert lineage == ["tiny", "letters"]
    rows = [json.loads(line) for line in job.file.read_text().splitlines()]
    given = answers(finished, [row["text"] for row in rows])
    right = [answer["label"] == row["label"] for answer, row in zip(given, rows, strict=True)]
    assert sum(right) / len(right) == finished.metrics["validation/accuracy"] > 0.6


def test_a_model_of_several_encoders_is_a_source_again(job):
    make_model_folder(job.folder / "bases" / "other", texts=SENTENCES, hidden=16, seed=1)
    features = {"kind": "features", "models": ["other"]}
    first = run(job, method="linear_probe", transfer=features)
    assignment = job.assignment().model_copy(update={"models": {"ft:two": first.folder}})
    spec = parse_spec({**job.spec(), "model": "ft:two"})
    second = run_recipe(assignment, spec, [].append, lambda: False)
    assert len(json.loads((second.folder / "config.json").read_text())["encoders"]) == 2
    lineage = second.manifest["facts"]["lineage"]
    assert [entry["id"] for entry in lineage] == ["tiny", "other", "ft:two"]
    assert lineage[-1]["job_id"] == "job-tiny"


def test_the_features_of_what_cannot_be_read_side_by_side_are_refused(job):
    with pytest.raises(InvalidSpec, match="no base model 'nowhere'"):
        run(job, method="linear_probe", transfer={"kind": "features", "models": ["nowhere"]})
    with pytest.raises(InvalidSpec, match="use method 'linear_probe'"):
        run(job, transfer={"kind": "features", "models": ["tiny"]})


# --- checkpoints ---


@pytest.mark.parametrize("method", ["full", "lora", "prompt", "linear_probe", "lp_ft"])
def test_a_checkpoint_is_a_source(job, method):
    """Made of the last checkpoint, a network says what the finished model of that step says."""
    seen: list[Event] = []
    finished = run(job, seen, method=method)
    saved = [event for event in seen if isinstance(event, CheckpointEvent)]
    if method == "linear_probe":
        assert not saved, "nothing to resume: the head is solved for at once"
        return
    best = max((event for event in saved if event.is_best), key=lambda event: event.step)
    (resolved,) = [event.spec for event in seen if isinstance(event, ResolvedEvent)]
    source = SourceCheckpoint(
        folder=best.folder, manifest_sha256=best.manifest_sha256, spec=resolved
    )
    again: list[Event] = []
    second = run(job, again, sources={"ckpt-1": source}, model="ckpt-1")
    assert second.manifest["facts"]["lineage"][-1] == {"id": "ckpt-1", "kind": "checkpoint"}
    assert second.report["before"]["accuracy"] == finished.metrics["validation/accuracy"]
    assert second.report["before"]["loss"] == pytest.approx(
        finished.metrics["validation/loss"], rel=1e-4
    )
