"""Preference pairs as a whole job: every figure is against the model that it began with."""

from __future__ import annotations

import json
import shutil

import pytest

from app.spec.job import parse_spec
from tests.tiny import make_base_folder
from tests.trainer_child import TRAIN_ID, TinyJob
from workers.protocol import Event
from workers.recipes import run_recipe

WORDS = ("red", "blue", "green", "old", "new", "good", "bad", "warm")


pytestmark = pytest.mark.usefixtures("one_thread_and_no_traces")


def test_pairs_are_judged_against_the_model_that_the_job_began_with(tmp_path):
    job = TinyJob(tmp_path)
    rows = [
        {"prompt": f"say {a} {b}", "chosen": f"{a} yes", "rejected": f"{b} no"}
        for a in WORDS
        for b in WORDS
    ]
    job.file.write_text("\n".join(map(json.dumps, rows)))
    base = tmp_path / "bases" / "tiny"
    shutil.rmtree(base)
    make_base_folder(base, "decoder", texts=("say yes no", " ".join(WORDS)))
    job.task = "text-generation"
    events: list[Event] = []
    spec = {**job.spec(), "data": {"train": TRAIN_ID, "validation": TRAIN_ID, "test": TRAIN_ID}}
    finished = run_recipe(job.assignment(()), parse_spec(spec), events.append, lambda: False)
    report = finished.report
    assert report["before"]["reward_margin"] == pytest.approx(0, abs=1e-4)
    untouched = report["baselines"]["untouched"]["test"]["metrics"]
    assert untouched["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert untouched["loss"] == pytest.approx(report["before"]["loss"])
    assert finished.metrics["test/reward_accuracy"] > 0.9
    assert finished.metrics["test/reward_margin"] > 0
    assert finished.metrics["test/loss"] < untouched["loss"]
