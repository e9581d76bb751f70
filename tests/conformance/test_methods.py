"""Every method: what it trains, in what order, and that a run of it can be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from app.adapt.layers.depth import depths
from app.adapt.layers.lora import LowRank
from app.adapt.method import Method
from app.adapt.plugins import METHODS
from app.adapt.tasks.text_classification.config import TextClassification
from app.errors import InvalidSpec
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
    network = TASK.network().load(TASK, folder)
    method.extend_tokenizer(AutoTokenizer.from_pretrained(folder), network)
    return method.prepare(network)


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


def test_the_tokenizer_gives_the_method_its_room(method, folder):
    """The given one stays as it is: what the model is compared to reads by it."""
    torch.manual_seed(0)
    given = AutoTokenizer.from_pretrained(folder)
    before = given("a dull plot", "and worse")["input_ids"]
    network = TASK.network().load(TASK, folder)
    extended = method.extend_tokenizer(given, network)
    after = extended("a dull plot", "and worse")["input_ids"]
    assert given("a dull plot", "and worse")["input_ids"] == before
    assert len(after) == len(before) + method.added_tokens
    assert [token for token in after if token < len(given)] == before
    network = method.prepare(network)
    logits = network(input_ids=torch.tensor([after])).logits
    assert torch.isfinite(logits).all()


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


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.a.weight",
          "bert.encoder.layer.1.a.bias", "bert.pooler.dense.weight", "classifier.weight"],
         [0, 1, 2, 3, 3]),
        (["transformer.wte.weight", "transformer.h.0.attn.weight", "transformer.ln_f.weight"],
         [0, 1, 2]),
        (["shared.weight", "encoder.block.0.layer.0.q.weight", "encoder.block.0.layer.1.w.weight",
          "encoder.block.1.layer.0.q.weight", "decoder.block.0.layer.2.w.weight", "lm_head.weight"],
         [0, 1, 1, 2, 3, 4]),
        (["model.embed_tokens.weight", "model.layers.0.mlp.weight", "model.norm.weight"], [0, 1, 2]),
        (["encoder.embed_positions.weight", "encoder.layernorm_embedding.bias",
          "encoder.layers.0.fc1.weight", "decoder.layers.0.fc1.weight"], [0, 0, 1, 2]),
    ],
    ids=["bert", "gpt2", "t5", "llama", "bart"],
)  # fmt: skip
def test_depths_of_the_usual_architectures(names: list[str], expected: list[int]):
    class Named(nn.Module):
        def named_parameters(self, *_, **__):
            return iter([(name, nn.Parameter(torch.zeros(1))) for name in names])

    assert list(depths(Named()).values()) == expected


def test_bias_only_moves_biases_and_the_head(folder):
    network = prepared(METHODS["bias_only"].model_validate({}), folder)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= trained
    assert any("encoder.layer.0" in name for name in trained)
    assert all(name.endswith("bias") for name in trained if ".encoder." in name)
    assert not any(name.endswith("bias") for name in frozen)


def test_bias_only_says_when_there_are_no_biases():
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    with pytest.raises(InvalidSpec, match="no biases"):
        METHODS["bias_only"].model_validate({}).prepare(network)


@pytest.fixture(params=["bert", "gpt2", "tied"])
def network(request, folder) -> nn.Module:
    """Linear layers in both spellings, `nn.Linear` and GPT-2's `Conv1D`; a head that is the embeddings."""
    if request.param == "bert":
        return TASK.network().load(TASK, folder).eval()
    sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**sizes, pad_token_id=0, num_labels=2)
    kind = GPT2LMHeadModel if request.param == "tied" else GPT2ForSequenceClassification
    return kind(config).eval()


def test_lora_starts_at_the_base_and_merges_into_it(network):
    ids = torch.arange(5, 13)[None]
    untouched = network(input_ids=ids).logits
    plain = {name: p.shape for name, p in network.named_parameters()}
    total = sum(p.numel() for p in network.parameters())
    method = METHODS["lora"].model_validate({"rank": 2, "dropout": 0.5})
    method.prepare(network)
    assert torch.equal(network(input_ids=ids).logits, untouched)
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) < total / 2
    for parameter in trained:
        nn.init.normal_(parameter, std=0.3)
    moved = network(input_ids=ids).logits
    assert not torch.allclose(moved, untouched)
    method.finish(network)
    assert torch.allclose(network(input_ids=ids).logits, moved, atol=1e-4)
    assert {name: p.shape for name, p in network.named_parameters()} == plain


def test_lora_wraps_the_blocks_and_trains_the_head(folder):
    network = prepared(METHODS["lora"].model_validate({}), folder)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    wrapped = {name.rpartition(".")[0] for name in trained if ".encoder." in name}
    assert (
        len(wrapped) == 2 * 6
    )  # two blocks of query, key, value, two outputs and one intermediate
    assert "classifier.weight" in trained
    assert not any("embeddings" in name for name in trained)


def test_lora_scales_by_the_root_of_its_rank(folder):
    for stabilized, scale in ((True, 8 / 4), (False, 8 / 16)):
        method = METHODS["lora"].model_validate({"rank_stabilized": stabilized})
        network = prepared(method, folder)
        found = {m.scale for m in network.modules() if isinstance(m, LowRank)}
        assert found == {scale}


def test_gradual_unfreezing_opens_from_the_top_down(folder):
    method = METHODS["gradual_unfreezing"].model_validate({"layer_decay": 0.5, "open_by": 0.6})
    network = prepared(method, folder)  # two blocks: depths 0 to 3

    def open_at(fraction: float) -> set[int]:
        method.before_step(network, fraction=fraction)
        depth = depths(network)
        return {depth[name] for name, p in network.named_parameters() if p.requires_grad}

    assert open_at(0.0) == {3}
    assert open_at(0.2) == {2, 3}
    assert open_at(0.4) == {1, 2, 3}
    assert open_at(0.6) == open_at(0.99) == {0, 1, 2, 3}
    assert open_at(0.1) == {3}, "what is open depends on the fraction alone"
    method.prepare(network)
    rates = [group["lr"] for group in groups_of(method, network)]
    assert rates[0] == 1e-3
    assert sorted(set(rates), reverse=True) == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
