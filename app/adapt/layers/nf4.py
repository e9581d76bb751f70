"""Linear layers whose weight is held in 4 bits, for adapters to train beside.

Source: Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314): 16 values that cut a normal distribution into
equal shares (NF4), a scale for each 64 weights, and the scales again in 8 bits (double quantization), 4.127
bits a weight in all. The kernels are those of bitsandbytes, which is imported when it is needed.
"""

from __future__ import annotations

import importlib
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from app.errors import TrainingFailed

BLOCK, SCALE_BLOCK = 64, 256  # weights that share a scale, scales that share one
ROOM = 1.2  # the plain weights, and what making them takes beside


class Nf4(nn.Module):
    """A linear layer with its weight in 4 bits; y = x W^T + bias with the W that the bits stand for.

    Not `bitsandbytes.nn.Linear4bit`: what that stores in a checkpoint it does not load again.
    """

    packed: Tensor
    scales: Tensor
    scale_scales: Tensor
    offset: Tensor
    table: Tensor
    scale_table: Tensor

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.is_transposed = isinstance(base, Conv1D)
        weight = cast("Tensor", base.weight).detach()
        weight_OI = weight.T.contiguous() if self.is_transposed else weight
        packed, state = _library().functional.quantize_4bit(
            weight_OI.to(_device(weight)),
            blocksize=BLOCK,
            compress_statistics=True,
            quant_type="nf4",
        )
        self.shape = weight_OI.shape
        # Buffers: a checkpoint has them, and `to` moves them. The tables are the same everywhere.
        self.register_buffer("packed", packed)
        self.register_buffer("scales", state.absmax)
        self.register_buffer("scale_scales", state.state2.absmax)
        self.register_buffer("offset", state.offset)
        self.register_buffer("table", state.code, persistent=False)
        self.register_buffer("scale_table", state.state2.code, persistent=False)
        del base.weight
        self.base = base

    @property
    def num_bytes(self) -> int:
        """What the plain weight takes."""
        return 4 * self.shape.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., O) of (..., I), computed as autocast would a plain layer."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if (
            x.is_cuda
        ):  # for the backward pass this keeps the bits, where a plain layer keeps the weight
            y = cast("Tensor", _library().matmul_4bit(x, self.packed, quant_state=self.state()))
        else:
            y = functional.linear(x, self.unpacked().to(x.dtype))
        bias = cast("Tensor | None", self.base.bias)
        return y if bias is None else y + bias.to(y.dtype)

    def unpacked(self) -> Tensor:
        """Return the weight (O, I) that the bits stand for: w = t[b] s, s = t'[b'] s' + offset.

        Not by the library: on a CPU its version 0.50 takes wrong scales where I is no multiple of 64.
        """
        scales = self.scale_table[self.scales.int()] * _each(
            self.scale_scales, SCALE_BLOCK, self.scales
        )
        bits = torch.stack([self.packed >> 4, self.packed & 15], dim=-1).flatten()
        bits = bits[: self.shape.numel()]
        weights = self.table[bits.int()] * _each(scales + self.offset, BLOCK, bits)
        return weights.view(self.shape)

    def plain(self) -> nn.Module:
        """Return the layer that was given, with the weight that the bits stand for."""
        weight_OI = self.unpacked()
        weight = weight_OI.T.contiguous() if self.is_transposed else weight_OI
        self.base.weight = nn.Parameter(weight, requires_grad=False)
        return self.base

    def state(self) -> Any:
        """Return all but the bits as the library's kernels take it."""
        made = _library().functional.QuantState
        scales = made(
            absmax=self.scale_scales,
            blocksize=SCALE_BLOCK,
            code=self.scale_table,
            dtype=torch.float32,
        )
        return made(
            absmax=self.scales, shape=self.shape, code=self.table, blocksize=BLOCK, quant_type="nf4",
            dtype=torch.float32, offset=self.offset, state2=scales,
        )  # fmt: skip


def check_hardware() -> None:
    """Check that this worker can train beside 4 bits.

    Raises:
        TrainingFailed: it has no GPU, or no bitsandbytes.
    """
    if not torch.cuda.is_available():
        message = (
            "method.quantize needs a GPU and this worker has none; leave it out to train with lora"
        )
        raise TrainingFailed(message, code="no_gpu", param="method.quantize")
    _library()


def make_room(network: nn.Module) -> None:
    """Move a network to the CPU whose plain weights its GPU has no room for."""
    layers = [module for module in network.modules() if isinstance(module, Nf4)]
    devices = {tensor.device for layer in layers for tensor in layer.buffers() if tensor.is_cuda}
    for device in devices:
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        if ROOM * sum(layer.num_bytes for layer in layers) > free:
            network.to("cpu")


def _device(weight: Tensor) -> torch.device:
    # On the GPU a layer takes milliseconds, and its plain weight never all of the memory there.
    return torch.device("cuda") if torch.cuda.is_available() else weight.device


def _library() -> Any:
    try:
        return importlib.import_module("bitsandbytes")  # an extra: most workers do without
    except ModuleNotFoundError as error:
        message = (
            "method.quantize needs the package bitsandbytes, which this worker has not: "
            "pip install 'attune[gpu]'"
        )
        raise TrainingFailed(message, code="package_missing", param="method.quantize") from error


def _each(scales: Tensor, block: int, items: Tensor) -> Tensor:
    """Return the scale of each item, `block` of which share one."""
    return scales.repeat_interleave(block)[: items.numel()]
