"""What "auto" stands for."""

from __future__ import annotations

import json

import pytest

from app.adapt.plugins import LOSSES, METHODS
from app.errors import InvalidSpec
from app.spec.job import parse_spec
from app.spec.resolve import GIB, Facts, estimate, resolve, resolve_length, starts_fresh

MINILM = 22_713_216
ONE_SEED = {"seeds": 1}


def spec(optimization=None, runtime=None):
    return parse_spec(
        {
            "kind": "fine_tune",
            "model": "tiny",
            "task": {"kind": "text-classification", "problem": "single_label"},
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
    resolved = resolve(spec({"epochs": 2, "batch_size": 10, "max_length": 32}, ONE_SEED), fact)
    cost = estimate(resolved, fact)
    assert cost["steps"] == 20
    assert cost["tokens"] == 2 * 100 * 32
    three = resolve(spec({"epochs": 2, "batch_size": 10, "max_length": 32}, {"seeds": 3}), fact)
    assert estimate(three, fact)["steps"] == 60
    assert cost["seconds"] == pytest.approx(6 * (MINILM - 12_000_000) * 6400 / 9e10, abs=0.1)
    capped = resolve(spec({"epochs": 2, "batch_size": 10, "max_steps": 5}, ONE_SEED), fact)
    assert estimate(capped, fact)["steps"] == 5
    assert estimate(capped, fact)["tokens"] == 5 * 10 * 50


@pytest.mark.parametrize(
    ("count", "changes", "seeds"),
    [
        (100, {}, 3),
        (5000, {}, 1),
        (100, {"task": "fill-mask"}, 1),
        (100, {"method": "linear_probe"}, 1),
        (100, {"method": "auto"}, 3),
        (100, {"runtime": {"seeds": 2}}, 2),
    ],
)
def test_few_rows_under_a_new_head_get_several_seeds(count, changes, seeds):
    given = {**spec().model_dump(), **changes}
    assert resolve(parse_spec(given), facts(count)).runtime.seeds == seeds


def test_the_rate_waits_for_the_method():
    given = {**spec().model_dump(), "method": "auto"}
    assert resolve(parse_spec(given), facts()).optimization.learning_rate == "auto"
    given["optimization"] = {"learning_rate": 1e-3}
    assert resolve(parse_spec(given), facts()).optimization.learning_rate == 1e-3


def test_a_loss_that_compares_rows_gets_many_of_them_as_far_as_memory_goes():
    contrastive = spec().model_copy(
        update={"losses": [LOSSES["supervised_contrastive"].model_validate({})]}
    )
    assert resolve(contrastive, facts(100)).optimization.batch_size == 128
    assert resolve(contrastive, facts(5000)).optimization.batch_size == 128
    tight = facts(100, lengths=[256] * 100, memory_bytes=int(0.7 * GIB))
    assert resolve(contrastive, tight).optimization.batch_size == 16
    assert resolve(spec(), facts(100)).optimization.batch_size == 16


@pytest.mark.parametrize(
    ("method", "expected"),
    [("full", 1e-3), ("lp_ft", 5e-4), ("bias_only", 1e-2), ("layerwise_lr", 1e-3), ("lora", 1e-3)],
)
def test_a_kind_of_network_may_have_a_rate_of_its_own(method, expected):
    given = parse_spec({**spec().model_dump(), "method": method})
    assert resolve(given, facts(full_rate=1e-3)).optimization.learning_rate == expected


def test_random_weights_train_for_longer():
    assert resolve(spec(), facts(5000, is_fresh=True)).optimization.epochs == 10
    few = resolve(spec(), facts(100, is_fresh=True)).optimization.epochs
    assert few == resolve(spec(), facts(100)).optimization.epochs == 20


def test_what_starts_fresh():
    bilstm = {"model": {"kind": "bilstm"}}
    for changes, expected in (
        ({}, False),
        (bilstm, True),
        ({"transfer": "structure"}, True),
        ({"transfer": {"kind": "mixed", "layers": ["0"]}}, False),
        ({"model": {"kind": "pretrained", "model": "tiny"}}, False),
    ):
        given = parse_spec({**spec().model_dump(), **changes})
        assert starts_fresh(given.model, given.transfer) is expected
