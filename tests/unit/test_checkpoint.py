"""Checkpoints: what goes in comes out bit for bit, and nothing damaged is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from app.spec.optimization import Optimization
from app.store.manifest import CorruptFolder
from workers.protocol import CheckpointRef, Event, LogEvent, QuarantineEvent
from workers.training import checkpoint
from workers.training.optim import make_optimizer
from workers.training.report import Report
from workers.training.state import TrainState, network_tensors

STATE = TrainState(step=3, max_batch_tokens=64, threads=1, best_value=0.1 + 0.2, best_step=2)


class Tied(nn.Module):
    """Two names for one weight, as encoders with a language-model head have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.last = nn.Linear(4, 4, bias=False)
        self.last.weight = self.first.weight
        self.register_buffer("positions", torch.arange(3))

    def forward(self, x):
        return self.last(self.first(x))


def trained(optimizer_name="adamw", network=None, steps=3):
    torch.manual_seed(0)
    network = network or nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    groups = [{"params": list(network.parameters()), "lr": 0.01, "weight_decay": 0.01}]
    optimizer = make_optimizer(groups, Optimization(optimizer=optimizer_name))
    for step in range(steps):
        do_step(network, optimizer, step)
    return network, optimizer


def do_step(network, optimizer, step):
    torch.manual_seed(step)
    optimizer.zero_grad()
    network(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()


def saved(folder: Path, network, optimizer, state=STATE) -> CheckpointRef:
    trained = checkpoint.Trained(network, nn.ModuleDict(), optimizer)
    event = checkpoint.save(folder, trained, state, scaler={}, is_best=True)
    return CheckpointRef(
        id=f"ckpt-{state.step}",
        step=state.step,
        folder=event.folder,
        manifest_sha256=event.manifest_sha256,
    )


def restored(candidates, network, optimizer):
    events: list[Event] = []
    trained = checkpoint.Trained(network, nn.ModuleDict(), optimizer)
    return checkpoint.restore(candidates, trained, Report(events.append)), events


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adafactor"])
def test_going_on_is_the_same_as_never_having_stopped(tmp_path, name):
    network, optimizer = trained(name)
    ref = saved(tmp_path, network, optimizer)
    other, fresh = trained(name, steps=1)  # other weights, other moments
    found, _ = restored([ref], other, fresh)
    assert found == (STATE, {})
    for step in range(3, 6):
        do_step(network, optimizer, step)
        do_step(other, fresh, step)
    for key, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    network, optimizer = trained(network=Tied())
    assert set(network_tensors(network)) == {"first.weight", "positions"}
    ref = saved(tmp_path, network, optimizer)
    other, fresh = trained(network=Tied(), steps=1)
    restored([ref], other, fresh)
    assert torch.equal(other.last.weight, network.first.weight)
    assert other.last.weight is other.first.weight


@pytest.mark.parametrize("file", ["network.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_damage_is_found_and_the_next_one_taken(tmp_path, file, damage):
    network, optimizer = trained()
    older = saved(tmp_path, network, optimizer)
    newer = saved(tmp_path, network, optimizer, STATE.model_copy(update={"step": 4}))
    path = newer.folder / file
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found, events = restored([newer, older], network, optimizer)
    assert found is not None
    assert found[0].step == 3
    (event,) = events
    assert isinstance(event, QuarantineEvent)
    assert event.checkpoint_id == newer.id
    assert file in event.reason


def test_a_manifest_that_was_not_recorded_is_not_believed(tmp_path):
    network, optimizer = trained()
    ref = saved(tmp_path, network, optimizer)
    found, events = restored(
        [ref.model_copy(update={"manifest_sha256": "0" * 64})], network, optimizer
    )
    assert found is None
    assert [type(event) for event in events] == [QuarantineEvent, LogEvent]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    network, optimizer = trained()
    ref = saved(tmp_path, network, optimizer)
    with pytest.raises((CorruptFolder, RuntimeError)):
        checkpoint.load_network(nn.Linear(4, 4), ref.folder)


def test_saving_over_what_a_dead_run_left(tmp_path):
    network, optimizer = trained()
    left = tmp_path / "step-00000003"
    left.mkdir()
    (left / "network.safetensors").write_bytes(b"half of it")
    ref = saved(tmp_path, network, optimizer)
    assert restored([ref], network, optimizer)[0] is not None
    assert sorted(path.name for path in left.iterdir()) == [
        "manifest.json", "network.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip
    assert list(tmp_path.glob(".tmp-*")) == []


def test_the_best_weights_must_be_intact(tmp_path):
    network, optimizer = trained()
    ref = saved(tmp_path, network, optimizer)
    other, _ = trained(steps=1)
    checkpoint.load_best(other, (ref.folder, ref.manifest_sha256))
    assert torch.equal(other[0].weight, network[0].weight)
    (ref.folder / "state.json").unlink()
    with pytest.raises(CorruptFolder):
        checkpoint.load_best(other, (ref.folder, ref.manifest_sha256))
    with pytest.raises(CorruptFolder):
        checkpoint.load_best(other, None)
