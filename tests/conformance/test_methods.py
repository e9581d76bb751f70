"""Every method: what it trains, in what order, and that a run of it can be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from app.adapt.method import Method
from app.adapt.plugins import METHODS
from app.adapt.tasks.text_classification.config import TextClassification
from tests.tiny import make_model_folder

TASK = TextClassification(problem="single_label", labels=["a", "b"], pair=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=METHODS.kinds)
def method(request) -> Method:
    return METHODS[request.param].model_validate({"kind": request.param})


def prepared(method: Method, folder: Path) -> nn.Module:
    torch.manual_seed(0)
    return method.prepare(TASK.network().load(TASK, folder))


def groups_of(method: Method, network: nn.Module) -> list[dict]:
    return method.parameter_groups(network, learning_rate=1e-3, weight_decay=0.01)


def test_each_trainable_weight_is_in_one_group(method, folder):
    network = prepared(method, folder)
    found = [id(p) for group in groups_of(method, network) for p in group["params"]]
    assert len(found) == len(set(found)) > 0
    assert set(found) <= {id(p) for p in network.parameters() if p.requires_grad}


def test_groups_are_made_in_a_stable_order(method, folder):
    """Checkpoints name optimizer state by position."""
    shapes = []
    for _ in range(2):
        network = prepared(method, folder)
        names = {id(p): name for name, p in network.named_parameters()}
        groups = groups_of(method, network)
        shapes.append([[names[id(p)] for p in group["params"]] for group in groups])
        assert all(group["lr"] > 0 and group["weight_decay"] >= 0 for group in groups)
    assert shapes[0] == shapes[1]


def test_larger_networks_take_no_larger_steps(method):
    rates = [method.learning_rate(size) for size in (10**6, 22 * 10**6, 110 * 10**6, 340 * 10**6)]
    assert all(rate > 0 for rate in rates)
    assert rates == sorted(rates, reverse=True)


def test_a_step_moves_what_trains_and_nothing_else(method, folder):
    network = prepared(method, folder)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(groups_of(method, network))
    method.before_step(network, fraction=0.0)
    ids = torch.arange(5, 13)[None]
    network(input_ids=ids, labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    assert moved
    assert moved <= trainable


def test_the_finished_network_is_a_plain_one(method, folder, tmp_path):
    network = method.finish(prepared(method, folder))
    TASK.network().save(network, tmp_path)
    again = TASK.network().load(TASK, tmp_path)
    assert set(again.state_dict()) == set(network.state_dict())


def test_it_survives_json(method):
    assert type(method).model_validate_json(method.model_dump_json()) == method


def test_full_decays_matrices_only(folder):
    method = METHODS["full"].model_validate({})
    network = prepared(method, folder)
    decayed, spared = groups_of(method, network)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    spared_ids = {id(p) for p in spared["params"]}
    names = [name for name, p in network.named_parameters() if id(p) in spared_ids]
    assert names
    assert all(name.endswith("bias") or "LayerNorm" in name for name in names)
