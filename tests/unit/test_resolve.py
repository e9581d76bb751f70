"""What "auto" stands for."""

from __future__ import annotations

import json

import pytest

from app.adapt.plugins import METHODS
from app.errors import InvalidSpec
from app.spec.job import parse_spec
from app.spec.resolve import GIB, Facts, estimate, resolve, resolve_length

MINILM = 22_713_216


def spec(optimization=None, runtime=None):
    return parse_spec(
        {
            "kind": "fine_tune",
            "model": "tiny",
            "task": "text-classification",
            "data": {"train": "file-" + "0" * 26},
            "optimization": optimization or {},
            "runtime": runtime or {},
        }
    )


def facts(count=5000, **changes) -> Facts:
    fields = {
        "lengths": [10 + n % 20 for n in range(count)],
        "num_parameters": MINILM,
        "model_max_length": 512,
        "memory_bytes": 8 * GIB,
        "device": "cpu",
        **changes,
    }
    return Facts(**fields)


def test_nothing_stays_auto():
    resolved = resolve(spec(), facts())
    assert "auto" not in json.dumps(resolved.model_dump(include={"optimization", "runtime"}))


def test_resolving_twice_changes_nothing():
    resolved = resolve(spec(), facts())
    assert resolve(resolved, facts()) == resolved


def test_a_methods_own_tokens_leave_room_for_a_text():
    def with_prompt(length):
        given = spec({"max_length": length})
        return given.model_copy(update={"method": METHODS["prompt"].model_validate({})})

    assert resolve(with_prompt(28), facts()).optimization.max_length == 28
    with pytest.raises(InvalidSpec, match="28 or more") as caught:
        resolve(with_prompt(27), facts())
    assert caught.value.param == "optimization.max_length"
    assert resolve(spec({"max_length": 4}), facts()).optimization.max_length == 4


def test_what_is_given_stays():
    given = {"epochs": 2, "batch_size": 7, "learning_rate": 0.5, "warmup": 0.3, "max_length": 40,
             "max_batch_tokens": 80}  # fmt: skip
    runtime = {"evaluate_every": 11, "checkpoint_every": 13, "precision": "fp32", "device": "cpu"}
    resolved = resolve(spec(given, runtime), facts())
    assert resolved.optimization.model_dump(include=given.keys()) == given
    assert resolved.runtime.model_dump(include=runtime.keys()) == runtime


@pytest.mark.parametrize(
    ("count", "batch_size", "steps_at_least"), [(64, 16, 80), (400, 16, 500), (5000, 32, 400)]
)
def test_few_rows_get_more_epochs(count, batch_size, steps_at_least):
    optimization = resolve(spec(), facts(count)).optimization
    assert optimization.batch_size == batch_size
    steps = estimate(resolve(spec(), facts(count)), facts(count))["steps"]
    assert steps >= steps_at_least
    assert int(optimization.epochs) <= 20


def test_length_is_the_99th_percentile_and_never_past_the_model():
    assert resolve_length([10] * 990 + [400] * 10, 512) == 400
    assert resolve_length([10] * 995 + [400] * 5, 512) == 16
    assert resolve_length([1000] * 10, 512) == 512
    assert resolve_length([3], 512) == 8
    assert resolve(spec({"max_length": 4096}), facts()).optimization.max_length == 512


def test_larger_models_take_smaller_steps():
    rates = [
        resolve(spec(), facts(num_parameters=size)).optimization.learning_rate
        for size in (MINILM, 110_000_000, 340_000_000)
    ]
    assert rates == [2e-4, 3e-5, 1e-5]


def test_token_budget_follows_memory_and_holds_the_longest_example():
    small = resolve(spec(), facts(memory_bytes=GIB // 2)).optimization.max_batch_tokens
    large = resolve(spec(), facts(device="cuda", memory_bytes=64 * GIB)).optimization
    assert (small, large.max_batch_tokens) == (2048, 65_536)
    tight = facts(lengths=[4000] * 9, model_max_length=8192, memory_bytes=0)
    assert int(resolve(spec(), tight).optimization.max_batch_tokens) >= 4000


def test_gpus_get_half_precision():
    assert resolve(spec(), facts(device="cuda")).runtime.precision == "bf16"
    assert resolve(spec(), facts(device="cuda", has_bf16=False)).runtime.precision == "fp16"
    assert resolve(spec(), facts()).runtime.precision == "fp32"


def test_evaluation_once_an_epoch_and_ten_times_a_run():
    resolved = resolve(spec(), facts(5000))  # 157 steps an epoch, 471 in all
    assert resolved.runtime.evaluate_every == 48
    assert resolve(spec({"epochs": 40}), facts(5000)).runtime.evaluate_every == 157


def test_the_estimate_counts_tokens_that_are_trained_on():
    fact = facts(100, lengths=[50] * 100, num_embeddings=12_000_000, cores=2)
    resolved = resolve(spec({"epochs": 2, "batch_size": 10, "max_length": 32}), fact)
    cost = estimate(resolved, fact)
    assert cost["steps"] == 20
    assert cost["tokens"] == 2 * 100 * 32
    assert cost["seconds"] == pytest.approx(6 * (MINILM - 12_000_000) * 6400 / 9e10, abs=0.1)
    capped = resolve(spec({"epochs": 2, "batch_size": 10, "max_steps": 5}), fact)
    assert estimate(capped, fact)["steps"] == 5
    assert estimate(capped, fact)["tokens"] == 5 * 10 * 50
