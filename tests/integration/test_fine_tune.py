"""The fine_tune recipe in this process: every problem, the objective, early stopping, the budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from app.adapt.plugins import METHODS
from app.errors import AttuneError, InvalidData, InvalidSpec, TrainingFailed
from app.spec.job import parse_spec
from tests.trainer_child import TinyJob, references, series
from workers.protocol import (
    CheckpointEvent,
    Event,
    FinishedEvent,
    LogEvent,
    MetricsEvent,
    ResolvedEvent,
)
from workers.recipes import run_recipe
from workers.training.loop import Drained

pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


@pytest.fixture
def job(tmp_path) -> TinyJob:
    return TinyJob(tmp_path)


def run(
    job: TinyJob, *, task: Any = "text-classification", checkpoints=(),
    should_drain: Callable[[], bool] = lambda: False, **fields: Any,
) -> tuple[FinishedEvent, list[Event]]:  # fmt: skip
    events: list[Event] = []
    assignment = job.assignment(checkpoints)
    spec = parse_spec({**job.spec(), "task": task, **fields})
    try:
        return run_recipe(assignment, spec, events.append, should_drain), events
    except Drained:
        job.drained = events
        raise


def rewrite(job: TinyJob, change: Callable[[int, dict], dict]) -> None:
    rows = [json.loads(line) for line in job.file.read_text().splitlines()]
    lines = [json.dumps(change(number, row)) for number, row in enumerate(rows)]
    job.file.write_text("\n".join(lines) + "\n")


def weights(finished: FinishedEvent) -> bytes:
    return (finished.folder / "model.safetensors").read_bytes()


# --- problems ---


def test_multi_label(job):
    rewrite(job, lambda n, row: {**row, "label": [row["label"]] + ["third"] * (n % 3 == 0)})
    finished, _ = run(job)
    task = finished.manifest["facts"]["task"]
    assert (task["problem"], task["labels"]) == ("multi_label", ["bad", "good", "third"])
    assert {"validation/f1_micro", "validation/subset_accuracy"} <= finished.metrics.keys()
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_regression(job):
    rewrite(job, lambda n, row: {**row, "label": n % 7 / 2})
    finished, _ = run(job)
    assert finished.manifest["facts"]["task"]["problem"] == "regression"
    assert {"validation/pearson", "validation/spearman"} <= finished.metrics.keys()


def test_pairs(job):
    rewrite(job, lambda n, row: {"sentence1": row["text"], "sentence2": str(n), "label": n % 2})
    finished, _ = run(job)
    facts = finished.manifest["facts"]
    assert facts["task"]["pair"] is True
    assert facts["columns"]["text_pair"] == "sentence2"


def test_a_finished_model_is_a_base_again(job):
    first, _ = run(job)
    events: list[Event] = []
    assignment = job.assignment().model_copy(update={"models": {"ft:tiny": first.folder}})
    second = run_recipe(
        assignment,
        parse_spec({**job.spec(), "model": "ft:tiny"}),
        events.append,
        lambda: False,
    )
    assert second.manifest["facts"]["base"] == "ft:tiny"
    before = {k: v for k, v in series(events).items() if k == (0, "eval/accuracy")}
    assert before[0, "eval/accuracy"] == first.metrics["validation/accuracy"]


def test_a_soft_prompt_needs_none_of_our_code(job):
    """The untouched source and the probe beside it read texts without the prompt."""
    from transformers import pipeline

    finished, _ = run(job, method={"kind": "prompt", "num_tokens": 4})
    config = json.loads((finished.folder / "config.json").read_text())
    assert len(config["attune_prompt_tokens"]) == 4
    folder = str(finished.folder)
    classify = pipeline("text-classification", model=folder, tokenizer=folder)
    ids = classify.tokenizer("a fine film")["input_ids"]
    assert ids[1:5] == config["attune_prompt_tokens"]
    assert classify("a fine film")[0]["label"] in {"bad", "good"}
    assert finished.report["baselines"]["linear_probe"]["validation"]["metrics"]["accuracy"] > 0
    job.optimization["max_length"] = 8
    with pytest.raises(InvalidSpec) as caught:
        run(job, method={"kind": "prompt", "num_tokens": 4})
    assert caught.value.param == "optimization.max_length"


def test_a_probe_reads_off_labels_of_tokens(job):
    """Its model is transformers' own, with the source's weights but for the head."""
    from safetensors.torch import load_file
    from transformers import AutoModelForTokenClassification

    rows = [json.loads(line) for line in job.file.read_text().splitlines()]
    tagged = [
        {"tokens": row["text"].split(), "tags": ["O", f"B-{row['label']}"][: len(row["text"].split())]
         + ["O"] * (len(row["text"].split()) - 2)}
        for row in rows
    ]  # fmt: skip
    job.file.write_text("\n".join(json.dumps(row) for row in tagged))
    probed, _ = run(job, task="token-classification", method="linear_probe")
    made = load_file(probed.folder / "model.safetensors")
    source = load_file(job.folder / "bases" / "tiny" / "model.safetensors")
    kept = [name for name in made if name.startswith("bert.")]
    assert kept
    assert all(torch.equal(made[name], source[name.removeprefix("bert.")]) for name in kept)
    assert made["classifier.weight"].abs().sum() > 0
    AutoModelForTokenClassification.from_pretrained(probed.folder)
    tuned, _ = run(job, task="token-classification", method="full")
    beside = tuned.report["baselines"]["linear_probe"]["validation"]["metrics"]
    assert beside["f1"] == pytest.approx(probed.metrics["validation/f1"])
    with pytest.raises(InvalidSpec, match="leave layers") as caught:
        run(job, task="token-classification", method={"kind": "linear_probe", "poolings": ["max"]})
    assert caught.value.param == "method"


def test_structure_alone_gives_other_weights(job):
    kept, _ = run(job)
    fresh, _ = run(job, transfer="structure")
    assert weights(kept) != weights(fresh)


# --- exactness ---


def test_mixed_transfer_keeps_the_named_layers_and_draws_the_rest(job):
    from safetensors.torch import load_file

    still = {"method": {"kind": "full", "freeze": ["embeddings", "0-1"]}}
    finished, _ = run(job, transfer={"kind": "mixed", "layers": ["embeddings", "0"]}, **still)
    source = load_file(job.folder / "bases" / "tiny" / "model.safetensors")
    made = load_file(finished.folder / "model.safetensors")
    same = {
        name.removeprefix("bert.")
        for name, tensor in made.items()
        if torch.equal(tensor, source.get(name.removeprefix("bert."), torch.empty(0)))
    }
    matrices = {name for name in source if source[name].ndim == 2}
    kept = {name for name in matrices if name.startswith(("embeddings.", "encoder.layer.0."))}
    assert same & matrices == kept


def test_freezing_everything_is_refused(job):
    with pytest.raises(InvalidSpec) as caught:
        run(job, method={"kind": "full", "freeze": ["*"]})
    assert caught.value.param == "method.freeze"


def test_a_layer_that_is_not_there_cannot_be_kept(job):
    with pytest.raises(InvalidSpec) as caught:
        run(job, transfer={"kind": "mixed", "layers": ["7"]})
    assert caught.value.param == "transfer.layers"
    with pytest.raises(InvalidSpec, match="no weights"):
        run(job, transfer={"kind": "mixed", "layers": ["head"]})


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(job):
    first, _ = run(job)
    again, _ = run(job)
    assert weights(first) == weights(again)
    job.runtime["seed"] = 8
    other, _ = run(job)
    assert weights(first) != weights(other)


@pytest.mark.parametrize("task", ["plain", "balanced"])
def test_a_batch_cut_into_parts_gives_the_same_gradient(job, task):
    """Dropout differs between cuts, so it is off; what is left is rounding."""
    edit = job.folder / "bases" / "tiny" / "config.json"
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    edit.write_text(json.dumps(json.loads(edit.read_text()) | off))
    job.optimization |= {"epochs": 1, "gradient_clip": None, "max_steps": 3}
    if task == "balanced":
        rewrite(job, lambda n, row: {**row, "label": "good" if n % 4 else "bad"})
        job.optimization["class_weights"] = "balanced"
    norms = []
    for budget in (4096, 48):
        job.optimization["max_batch_tokens"] = budget
        _, events = run(job)
        norms.append([v for (_, name), v in sorted(series(events).items())
                      if name in {"train/gradient_norm", "train/loss"}])  # fmt: skip
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


@pytest.mark.parametrize("method", METHODS.kinds)
def test_drain_at_every_step_is_still_exact(job, method):
    """Stop after each and every step, and go on in the next run."""
    reference, undisturbed = run(job, method=method)
    seen: list[Event] = []
    finished = None
    while finished is None:
        try:
            finished, events = run(
                job, method=method, checkpoints=references(seen), should_drain=lambda: True
            )
        except Drained:
            events = job.drained
        seen += events
    assert weights(finished) == weights(reference)
    assert series(seen) == series(undisturbed)


def test_a_resumed_run_keeps_its_token_budget(job):
    job.optimization["max_batch_tokens"] = 64
    with pytest.raises(Drained):
        run(job, should_drain=lambda: True)
    job.optimization["max_batch_tokens"] = 4096
    _, events = run(job, checkpoints=references(job.drained))
    (resolved,) = [e for e in events if isinstance(e, ResolvedEvent)]
    assert resolved.spec["optimization"]["max_batch_tokens"] == 64


def test_lost_best_weights_are_said(job):
    _, events = run(job)
    checkpoints = [e for e in events if isinstance(e, CheckpointEvent)]
    best = max((e for e in checkpoints if e.is_best), key=lambda e: e.step)
    last = checkpoints[-1]
    if best.step == last.step:
        pytest.skip("the last step was the best one")
    kept = [ref for ref in references(events) if ref.step != best.step][:1]
    _, again = run(job, checkpoints=kept)
    said = [e.message for e in again if isinstance(e, LogEvent) and e.level == "warning"]
    assert any(f"of step {best.step}, are lost" in message for message in said)


# --- optimization ---


def test_a_file_that_changed_since_its_upload(job):
    assignment = job.assignment(())
    content = job.file.read_text()
    for damage in (lambda: job.file.write_text(content.replace("a", "b", 1)), job.file.unlink):
        damage()
        with pytest.raises(InvalidData, match="not what was uploaded") as caught:
            run_recipe(assignment, parse_spec(job.spec()), [].append, lambda: False)
        assert (caught.value.error_code, caught.value.param) == ("file_damaged", "data")


def test_a_language_that_the_model_does_not_know_is_said(job):
    _, events = run(job)
    assert not any("unknown to" in e.message for e in events if isinstance(e, LogEvent))
    rewrite(job, lambda number, row: row | {"text": f"很好的酒店 {number}"})
    _, events = run(job)
    (said,) = [e for e in events if isinstance(e, LogEvent) and "unknown to" in e.message]
    assert said.level == "warning"


def test_early_stopping_ends_it_and_keeps_the_best(job):
    job.optimization |= {"epochs": 200, "early_stopping": {"patience": 2}}
    finished, events = run(job)
    report = finished.report
    assert report["stopped_early"] is True
    assert report["steps"] < 200 * 6
    assert report["best_step"] == report["steps"] - 2 * 5
    by_step = {e.step: e.values for e in events
               if isinstance(e, MetricsEvent) and "eval/accuracy" in e.values}  # fmt: skip
    best = max(v["eval/accuracy"] for step, v in by_step.items() if step > 0)
    assert by_step[report["best_step"]]["eval/accuracy"] == best


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adafactor"])
@pytest.mark.parametrize("schedule", ["linear", "slanted_triangular"])
def test_optimizers_and_schedules(job, optimizer, schedule):
    job.optimization |= {"optimizer": optimizer, "schedule": schedule, "max_steps": 4}
    finished, _ = run(job)
    assert finished.report["steps"] == 4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_full_weights(job, precision):
    job.runtime["precision"] = precision
    job.optimization["max_steps"] = 3
    finished, _ = run(job)
    stored = json.loads((finished.folder / "config.json").read_text())
    assert stored["dtype"] == "float32"


def test_a_gpu_that_is_not_there(job):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    job.runtime["device"] = "cuda"
    with pytest.raises(TrainingFailed) as caught:
        run(job)
    assert caught.value.error_code == "no_gpu"


# --- the objective ---


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"losses": ["mean_squared_error"]}, "losses"),
        ({"losses": ["binary_cross_entropy"]}, "losses"),
        ({"losses": [{"kind": "cross_entropy", "class_weights": [1.0, 2.0, 3.0]}]}, "losses"),
    ],
)
def test_a_loss_that_cannot_judge_the_task(job, fields, param):
    with pytest.raises(InvalidSpec) as caught:
        run(job, **fields)
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["label_smoothing", "class_weights"])
def test_a_setting_that_the_tasks_loss_does_not_take(job, name):
    rewrite(job, lambda n, row: {**row, "label": n % 7 / 2})
    job.optimization[name] = {"label_smoothing": 0.1, "class_weights": "balanced"}[name]
    with pytest.raises(InvalidSpec) as caught:
        run(job)
    assert caught.value.param == f"optimization.{name}"


def test_losses_and_their_shorthand_exclude_each_other(job):
    job.optimization["label_smoothing"] = 0.1
    with pytest.raises(AttuneError):
        run(job, losses=["cross_entropy"])


def test_losses_add_up_by_their_weights(job):
    job.optimization["max_steps"] = 1
    one, two = (
        series(run(job, losses=[{"kind": "cross_entropy", "weight": w} for w in weights])[1])
        for weights in ((2.0,), (0.5, 1.5))
    )
    assert one[1, "train/loss"] == pytest.approx(two[1, "train/loss"], rel=1e-6)


# --- what can be told from outside ---


def test_training_helps(job):
    rewrite(job, lambda n, row: {**row, "text": f"{'good' if n % 2 else 'bad'} {n}"})
    job.optimization |= {"epochs": 30, "learning_rate": 2e-3}
    finished, _ = run(job)
    assert finished.metrics["validation/accuracy"] > finished.report["before"]["accuracy"]
    assert finished.metrics["validation/accuracy"] >= 0.9
