"""Optimizers against their formulas, schedules at their corners."""

from __future__ import annotations

import math

import pytest
import torch

from app.spec.optimization import Optimization
from workers.training.optim import factor, make_optimizer, set_rates

TOTAL = 100


def spec(**fields) -> Optimization:
    return Optimization.model_validate({"warmup": 0.1, **fields})


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_it_rises_over_the_warmup_and_falls_to_nearly_nothing(schedule):
    values = [factor(spec(schedule=schedule), step, TOTAL) for step in range(TOTAL)]
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert values[10] == 1.0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[-1] < 0.02


def test_linear_and_cosine_half_way():
    assert factor(spec(schedule="linear"), 55, TOTAL) == pytest.approx(0.5)
    assert factor(spec(schedule="cosine"), 55, TOTAL) == pytest.approx(0.5)
    assert factor(spec(schedule="cosine"), 32, TOTAL) == pytest.approx(
        0.5 * (1 + math.cos(math.pi * 22 / 90))
    )


def test_constant_stays():
    assert [factor(spec(schedule="constant", warmup=0.0), s, TOTAL) for s in (0, 99)] == [1.0, 1.0]


def test_slanted_triangular_is_howard_and_ruders():
    values = [factor(spec(schedule="slanted_triangular"), step, TOTAL) for step in range(TOTAL)]
    assert values[0] == pytest.approx(1 / 32)
    assert max(values) == values[10] == 1.0
    assert values[-1] == pytest.approx((1 + (1 - 89 / 90) * 31) / 32)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "slanted_triangular"])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_runs_have_rates_too(schedule, total):
    for step in range(total):
        assert 0 < factor(spec(schedule=schedule), step, total) <= 1


def test_set_rates_scales_each_group():
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [
        {"params": [parameter], "lr": rate, "weight_decay": 0.0}
        for parameter, rate in zip(parameters, (0.1, 0.2), strict=True)
    ]
    optimizer = make_optimizer(groups, spec())
    assert set_rates(optimizer, [0.1, 0.2], 0.5) == pytest.approx(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.1])


def test_adamw_corrects_its_bias():
    """After one step every weight has moved by the rate, whatever the gradient (Kingma & Ba)."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    groups = [{"params": [parameter], "lr": 0.01, "weight_decay": 0.0}]
    optimizer = make_optimizer(groups, spec())
    parameter.grad = torch.tensor([1e-3, 1.0, -50.0])
    optimizer.step()
    torch.testing.assert_close(
        parameter.detach(), torch.tensor([-0.01, -0.01, 0.01]), rtol=1e-3, atol=0
    )


def test_adamw_decays_apart_from_the_gradient():
    parameter = torch.nn.Parameter(torch.full((2,), 4.0))
    optimizer = make_optimizer([{"params": [parameter], "lr": 0.1, "weight_decay": 0.5}], spec())
    parameter.grad = torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((2,), 4.0 * (1 - 0.1 * 0.5)))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor"])
def test_every_optimizer_goes_downhill(name):
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(4, 4))
    groups = [{"params": [parameter], "lr": 0.05, "weight_decay": 0.0}]
    optimizer = make_optimizer(groups, spec(optimizer=name))
    first = float(parameter.detach().square().sum())
    for _ in range(20):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    assert float(parameter.detach().square().sum()) < first
