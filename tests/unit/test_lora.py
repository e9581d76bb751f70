"""LoRA where it is not plain: tied output matrices, bare encoders, base weights in 4 bits."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from app.adapt.layers.depth import head_names, select
from app.adapt.layers.lora import LowRank, add_low_rank, merge_low_rank
from app.adapt.layers.nf4 import Nf4
from app.adapt.plugins import METHODS, TASKS
from app.errors import InvalidSpec, TrainingFailed
from tests.tiny import make_base_folder, make_model_folder
from workers.training.state import network_tensors


def loaded(kind: str, folder: Any) -> Any:
    task = TASKS[kind].model_validate({"kind": kind})
    make_base_folder(folder, task.architecture)
    torch.manual_seed(0)
    return task.network().load(task, folder).eval()


def test_a_tied_output_matrix_stays_and_t5_runs(tmp_path):
    """T5 ties it, and asks a linear layer for the type of its weight."""
    network = loaded("summarization", tmp_path)
    ids = torch.arange(5, 13)[None]
    before = network(input_ids=ids, decoder_input_ids=ids).logits
    METHODS["lora"].model_validate({}).prepare(network)
    assert network.lm_head.weight is network.shared.weight
    assert isinstance(network.encoder.block[0].layer[1].DenseReluDense.wo, LowRank)
    after = network(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("kind", ["lora", "bias_only"])
def test_the_last_block_of_a_bare_encoder_is_no_head(tmp_path, kind):
    network = loaded("sentence-similarity", tmp_path)
    assert head_names(network) == set()
    METHODS[kind].model_validate({}).prepare(network)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained
    ends = (".up", ".down") if kind == "lora" else ("bias",)
    assert all(name.endswith(ends) for name in trained)
    assert any(".layer.1." in name for name in trained)


def test_only_parts_that_are_there_can_be_frozen(tmp_path):
    network = loaded("sentence-similarity", tmp_path)
    assert len(select(network, ["0-1"])) == len(select(network, ["0"])) * 2
    with pytest.raises(InvalidSpec, match="blocks 0-1"):
        select(network, ["head"])


# --- 4 bits ---


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra: attune[gpu]")


def layer_of(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    layer = kind(48, 96) if kind is nn.Linear else kind(96, 48)  # Conv1D names its outputs first
    nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_a_layer_in_4_bits_is_nearly_what_it_was(library, kind):
    """Weights of a normal distribution are off by 0.073 of its deviation on average, of a uniform by less.

    Reference: each weight of a block of 64 by the nearest of NF4's values times the block's largest.
    """
    plain = layer_of(kind)
    weight = plain.weight.detach().clone()
    layer = Nf4(plain)
    x = torch.randn(5, 48)
    found = layer(x)
    assert layer.packed.numel() == weight.numel() // 2
    assert layer.packed.dtype == torch.uint8
    restored = layer.plain()
    assert type(restored) is kind
    assert restored.weight.shape == weight.shape
    torch.testing.assert_close(restored(x), found)
    blocks = (weight.T.contiguous() if kind is Conv1D else weight).view(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / largest).unsqueeze(-1).sub(layer.table).abs().argmin(-1)
    expected = (layer.table[nearest] * largest).view(layer.shape)
    # The scales themselves are rounded to 8 bits.
    torch.testing.assert_close(layer.unpacked(), expected, atol=float(largest.max()) / 50, rtol=0)
    error = float((layer.unpacked() - blocks.view(layer.shape)).abs().mean() / weight.std())
    assert 0.06 < error < 0.09


def test_its_values_are_those_of_the_paper(library):
    """Dettmers et al. 2023, appendix E, to three digits."""
    values = Nf4(layer_of(nn.Linear)).table
    expected = [-1, -0.696, -0.525, -0.395, -0.284, -0.185, -0.091, 0,
                0.080, 0.161, 0.246, 0.338, 0.441, 0.563, 0.723, 1]  # fmt: skip
    torch.testing.assert_close(values.cpu(), torch.tensor(expected), atol=6e-4, rtol=0)


def test_gradients_go_through_it_and_not_into_it(library):
    layer = Nf4(layer_of(nn.Linear))
    x = torch.randn(5, 48, requires_grad=True)
    layer(x).square().sum().backward()
    weight = layer.unpacked()
    expected = 2 * (x @ weight.T + layer.base.bias) @ weight
    torch.testing.assert_close(x.grad, expected, atol=1e-4, rtol=1e-4)


def test_the_librarys_kernels_take_it_as_it_is(library):
    """The GPU's path, on a CPU: of 64 inputs, where its kernels are right there too."""
    torch.manual_seed(0)
    layer = Nf4(nn.Linear(128, 96, bias=False))
    restored = library.functional.dequantize_4bit(layer.packed, layer.state())
    torch.testing.assert_close(restored, layer.unpacked())
    x = torch.randn(5, 128, requires_grad=True)
    found = library.matmul_4bit(x, layer.packed, quant_state=layer.state())
    torch.testing.assert_close(found, layer(x))
    found.square().sum().backward()
    expected = 2 * found.detach() @ layer.unpacked()
    torch.testing.assert_close(x.grad, expected, atol=1e-4, rtol=1e-4)


def test_it_computes_as_autocast_does(library):
    layer = Nf4(layer_of(nn.Linear))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(5, 48)).dtype == torch.bfloat16


@pytest.fixture
def network(tmp_path) -> Any:
    return quantized(tmp_path)


def quantized(folder: Any) -> Any:
    task = TASKS["text-classification"].model_validate(
        {"problem": "single_label", "labels": ["a", "b"], "pair": False}
    )
    if not (folder / "config.json").is_file():
        make_model_folder(folder)
    torch.manual_seed(0)
    network = task.network().load(task, folder).eval().requires_grad_(requires_grad=False)
    assert add_low_rank(network, rank=2, scale=1.0, dropout=0.0, is_nf4=True) == 12
    return network


def trained(network: Any) -> Any:
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, LowRank):
            nn.init.normal_(module.up, std=0.1)
    return network


def test_updates_are_merged_into_what_the_bits_stand_for(library, network):
    ids = torch.arange(5, 13)[None]
    before = trained(network)(input_ids=ids).logits
    merged = merge_low_rank(network)
    assert not any(isinstance(module, Nf4 | LowRank) for module in merged.modules())
    torch.testing.assert_close(merged(input_ids=ids).logits, before)
    assert all(p.dtype == torch.float32 for p in merged.parameters())


def test_a_checkpoint_brings_the_same_bits_back(library, network, tmp_path):
    tensors = network_tensors(trained(network))
    other = quantized(tmp_path)
    for module in other.modules():
        if isinstance(module, Nf4):
            module.packed.zero_()
            module.scales.zero_()
    assert other.load_state_dict(tensors, strict=False).unexpected_keys == []
    ids = torch.arange(5, 13)[None]
    assert torch.equal(other(input_ids=ids).logits, network(input_ids=ids).logits)


def test_a_worker_without_a_gpu_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    method = METHODS["lora"].model_validate({"quantize": "nf4"})
    with pytest.raises(TrainingFailed, match="none") as caught:
        method.prepare(loaded("text-generation", tmp_path))
    assert (caught.value.error_code, caught.value.param) == ("no_gpu", "method.quantize")


def test_a_worker_without_bitsandbytes_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingFailed, match="attune\\[gpu\\]") as caught:
        Nf4(layer_of(nn.Linear))
    assert (caught.value.error_code, caught.value.param) == ("package_missing", "method.quantize")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_trains_on_a_gpu(library, tmp_path):
    method = METHODS["lora"].model_validate({"quantize": "nf4", "dropout": 0.0})
    network = method.prepare(loaded("text-generation", tmp_path)).to("cuda")
    ids = torch.arange(5, 13, device="cuda")[None]
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = network(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    before = network(input_ids=ids).logits
    finished = method.finish(network)
    torch.testing.assert_close(finished(input_ids=ids).logits, before, atol=1e-2, rtol=1e-2)
