"""Recurrent networks: padding changes nothing, states and names are what the rest of the code goes by."""

from __future__ import annotations

import json
from itertools import product

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

import app.adapt.network  # noqa: F401 - what registers the architecture
from app.adapt.architectures.recurrent import (
    RecurrentConfig,
    RecurrentForSequenceClassification,
    RecurrentModel,
)
from app.adapt.layers.depth import depths, head_names
from app.adapt.layers.internals import body_of

CELLS = ("lstm", "gru")
POOLINGS = ("max", "mean", "last", "attention")
LENGTHS = (7, 3, 1, 5)
HEADS = (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoModelForQuestionAnswering,
)


def config_of(**changes) -> RecurrentConfig:
    sizes = {"vocab_size": 40, "embedding_size": 6, "hidden_size": 8, "num_hidden_layers": 2}
    return RecurrentConfig(**{**sizes, "num_labels": 3, **changes})


def made(kind, config: RecurrentConfig):
    """Make a network whose every weight is random, biases too, so that none of them can be left out."""
    torch.manual_seed(0)
    network = kind.from_config(config) if hasattr(kind, "from_config") else kind(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network.eval()


def rows() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(5, 40, (length,), generator=generator) for length in LENGTHS]


def padded(extra: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows in one batch; what lies under the mask is a real token, so that it would be seen."""
    width = max(LENGTHS) + extra
    ids_BT, mask_BT = torch.full((len(LENGTHS), width), 9), torch.zeros((len(LENGTHS), width))
    for at, row in enumerate(rows()):
        ids_BT[at, : len(row)] = row
        mask_BT[at, : len(row)] = 1
    return ids_BT, mask_BT.long()


@pytest.mark.parametrize(("cell", "extra"), list(product(CELLS, (0, 4))))
def test_states_of_a_row_do_not_depend_on_the_batch(cell, extra):
    network = made(RecurrentModel, config_of(cell=cell))
    together = network(*padded(extra), output_hidden_states=True).hidden_states
    for at, row in enumerate(rows()):
        alone = network(row[None], output_hidden_states=True).hidden_states
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[at, : len(row)], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("cell", "pooling", "head_size"), list(product(CELLS, POOLINGS, (None, 5)))
)
def test_logits_of_a_row_do_not_depend_on_the_batch(cell, pooling, head_size):
    config = config_of(cell=cell, pooling=pooling, head_size=head_size)
    network = made(RecurrentForSequenceClassification, config)
    logits_BC = network(*padded(3)).logits
    for at, row in enumerate(rows()):
        torch.testing.assert_close(network(row[None]).logits[0], logits_BC[at], atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_states_are_those_of_packed_sequences(cell):
    """Against torch's own bidirectional layers on packed sequences: another formulation, same weights."""
    network = made(RecurrentModel, config_of(cell=cell))
    reference = getattr(nn, cell.upper())(6, 4, 2, bidirectional=True, batch_first=True)
    for number, layer in enumerate(network.layers):
        for side, suffix in ((layer.ahead, ""), (layer.back, "_reverse")):
            for name, parameter in side.named_parameters():
                wanted = name.replace("_l0", f"_l{number}") + suffix
                reference.get_parameter(wanted).data.copy_(parameter)
    ids_BT, mask_BT = padded(0)
    packed = nn.utils.rnn.pack_padded_sequence(
        network.embeddings(ids_BT), mask_BT.sum(1), batch_first=True, enforce_sorted=False
    )
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    found = network(ids_BT, mask_BT).last_hidden_state * mask_BT.unsqueeze(-1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_do_not_depend_on_the_padding(cell):
    gradients = []
    for extra in (0, 5):
        network = made(RecurrentForSequenceClassification, config_of(cell=cell))
        network(*padded(extra)).logits.square().sum().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-5)


def test_last_takes_the_end_that_each_direction_comes_to():
    config = config_of(pooling="last", num_hidden_layers=1)
    network = made(RecurrentForSequenceClassification, config)
    ids_BT, mask_BT = padded(2)
    layer = network.recurrent.layers[0]
    for at, row in enumerate(rows()):
        x = network.recurrent.embeddings(row[None])
        ahead, back = layer.ahead(x)[0][0, -1], layer.back(x.flip(1))[0][0, -1]
        expected = network.classifier(torch.cat([ahead, back]))
        torch.testing.assert_close(network(ids_BT, mask_BT).logits[at], expected)


def test_hidden_states_are_the_embeddings_and_each_layer():
    network = made(RecurrentModel, config_of())
    found = network(*padded(0), output_hidden_states=True)
    widths = [state.shape[-1] for state in found.hidden_states]
    assert widths == network.config.state_sizes == [6, 8, 8]
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
    assert network(*padded(0)).hidden_states is None


@pytest.mark.parametrize("kind", HEADS[1:])
def test_it_can_be_read_inside_whatever_its_head(kind):
    network = made(kind, config_of())
    body = body_of(network)
    assert body is network.recurrent
    assert len(body(*padded(0), output_hidden_states=True).hidden_states) == 3
    assert network(*padded(0), output_hidden_states=True).hidden_states is not None


def test_without_layers_the_states_are_the_embeddings():
    network = made(RecurrentModel, config_of(num_hidden_layers=0, hidden_size=6))
    ids_BT, mask_BT = padded(0)
    assert torch.equal(network(ids_BT, mask_BT).last_hidden_state, network.embeddings(ids_BT))


@pytest.mark.parametrize("kind", HEADS)
def test_depths_are_embeddings_layers_and_head(kind):
    network = made(kind, config_of())
    depth = depths(network)
    for name, level in depth.items():
        if "embeddings" in name:
            assert level == 0, name
        elif "layers.0." in name or "layers.1." in name:
            assert level == int(name.partition("layers.")[2][0]) + 1, name
        else:
            assert level == max(depth.values()), name
            assert name in head_names(network)


@pytest.mark.parametrize("kind", HEADS)
def test_the_auto_classes_load_what_was_saved(kind, tmp_path):
    network = made(kind, config_of(pooling="attention", head_size=4, cell="gru"))
    network.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path, local_files_only=True).eval()
    assert type(again) is type(network)
    first, second = network(*padded(1)), again(*padded(1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert json.loads((tmp_path / "config.json").read_text())["attune_learning_rate"] == 1e-3


def test_a_head_is_added_to_a_bare_network(tmp_path):
    bare = made(RecurrentModel, config_of())
    bare.save_pretrained(tmp_path)
    network, info = AutoModelForTokenClassification.from_pretrained(
        tmp_path, num_labels=2, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert torch.equal(
        network.recurrent.layers[0].ahead.weight_hh_l0, bare.layers[0].ahead.weight_hh_l0
    )


def test_new_weights_are_drawn_as_the_literature_does():
    torch.manual_seed(0)
    network = RecurrentModel(config_of(hidden_size=12, embedding_size=5))
    cell = network.layers[0].ahead
    for gate in cell.weight_hh_l0.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert cell.bias_ih_l0.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
    assert not cell.bias_hh_l0.any()
    assert cell.weight_ih_l0.abs().max() <= (6 / (5 + 6)) ** 0.5, "each gate's own fan"
    words = network.embeddings.words.weight
    assert not words[0].any(), "padding"
    assert words[1:].std().item() == pytest.approx(0.25, rel=0.2)
