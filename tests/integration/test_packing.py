"""Packing in whole jobs: the same steps as without it, and resumed exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from transformers import BloomConfig, BloomForCausalLM

from app.adapt.layers.packing import packed as make_packed
from app.adapt.tasks.text_generation import model
from app.spec.job import parse_spec
from tests.tiny import make_base_folder
from tests.trainer_child import TinyJob, references, series
from workers.protocol import Event, FinishedEvent, LogEvent, ResolvedEvent
from workers.recipes import run_recipe
from workers.training.loop import Drained

WORDS = ("red", "blue", "green", "old", "new", "good", "bad", "warm")


pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


@pytest.fixture
def job(tmp_path) -> TinyJob:
    """Completions of 1 and 8 words in the same batches, so that there is much to pack."""
    job = TinyJob(tmp_path, epochs=8, batch_size=48)
    rows = [
        {"prompt": f"say {WORDS[n % 8]}", "completion": " ".join(WORDS[: 8 if n % 3 else 1])}
        for n in range(98)
    ]
    job.file.write_text("\n".join(map(json.dumps, rows)))
    base = tmp_path / "bases" / "tiny"
    shutil.rmtree(base)
    make_base_folder(base, "decoder", texts=("say", " ".join(WORDS)))
    job.task = "text-generation"
    return job


def run(
    job: TinyJob, *, packing: Any = True, checkpoints=(),
    should_drain: Callable[[], bool] = lambda: False, method: Any = "full",
) -> tuple[FinishedEvent, list[Event]]:  # fmt: skip
    events: list[Event] = []
    job.optimization["packing"] = packing
    assignment, spec = job.assignment(checkpoints), parse_spec({**job.spec(), "method": method})
    try:
        finished = run_recipe(assignment, spec, events.append, should_drain)
    except Drained:
        job.drained = events
        raise
    return finished, events


def resolved(events: list[Event]) -> dict[str, Any]:
    (event,) = [event for event in events if isinstance(event, ResolvedEvent)]
    return event.spec["optimization"]


@pytest.mark.parametrize("method", ["full", {"kind": "prompt", "num_tokens": 1}])
def test_packed_steps_are_the_padded_ones(job, monkeypatch, method):
    shared: list[int] = []

    def counted(rows: Any, *others: Any) -> Any:
        shared.append(sum(len(row) > 1 for row in rows))
        return make_packed(rows, *others)

    _, padded = run(job, packing=False, method=method)
    monkeypatch.setattr(model, "packed", counted)
    _, packed = run(job, method=method)
    assert sum(shared) >= 10
    assert (resolved(padded)["packing"], resolved(packed)["packing"]) == (False, True)
    expected, found = series(padded), series(packed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3), key
    first = {key: value for key, value in expected.items() if key[0] == 1}
    assert (1, "train/loss") in first
    assert (1, "train/gradient_norm") in first
    for key, value in first.items():  # later ones have the rounding of the steps before
        assert found[key] == pytest.approx(value, rel=1e-5), key


def test_a_packed_run_resumes_exactly_after_every_step(job):
    reference, undisturbed = run(job)
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished, events = run(job, checkpoints=references(seen), should_drain=lambda: True)
        except Drained:
            events = job.drained
        seen += events
    name = "model.safetensors"
    assert (finished.folder / name).read_bytes() == (reference.folder / name).read_bytes()
    assert series(seen) == series(undisturbed)


def test_a_resumed_run_keeps_its_layout(job):
    with pytest.raises(Drained):
        run(job, packing=False, should_drain=lambda: True)
    _, events = run(job, packing=True, checkpoints=references(job.drained))
    assert resolved(events)["packing"] is False


def test_a_model_that_mixes_sequences_up_gets_padding_and_it_is_said(job):
    base = job.folder / "bases" / "tiny"
    vocab = json.loads((base / "config.json").read_text())["vocab_size"]
    config = BloomConfig(vocab_size=vocab, hidden_size=32, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(base)
    job.optimization["max_steps"] = 1
    _, events = run(job)
    assert resolved(events)["packing"] is False
    said = [event.message for event in events if isinstance(event, LogEvent)]
    assert any("would mix up those that share a row" in message for message in said)
