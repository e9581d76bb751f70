"""How deep each weight of a transformer lies: embeddings at 0, block n at n + 1, what is above on top."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from app.adapt.network import new_parameters, noted
from app.errors import InvalidSpec

# The numbered blocks of transformers' models: layer (BERT), layers (Llama, BART), h (GPT-2), block (T5).
BLOCK = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks)\.(\d+)\.")
RANGE = re.compile(r"(\d+)(?:-(\d+))?")
EMBEDDINGS = re.compile(r"(?:^|\.)[^.]*(?:embed|wte|wpe|shared)[^.]*(?:\.|$)")


def depths(network: nn.Module) -> dict[str, int]:
    """Return the depth of every parameter by name, 0 for embeddings up to the number of blocks plus 1.

    A numbered block inside another one (T5's `block.3.layer.1`) counts by the outer number. The decoder of
    an encoder-decoder lies above its encoder. What is neither block nor embedding is top: a head, a pooler,
    a last normalization.
    """
    return _depths(_names(network))[0]


def top_of(network: nn.Module) -> int:
    """Return the depth of what lies above the last block, which a bare encoder has nothing of."""
    return _depths(_names(network))[1]


def head_names(network: nn.Module) -> set[str]:
    """Return the names of what lies on top and answers the task, without a language model's output matrix.

    That matrix is as large as the embeddings and as well trained: methods that train little leave it.
    """
    depth, top = depths(network), top_of(network)
    get: Any = getattr(network, "get_output_embeddings", None)
    matrix = None if get is None else get()
    kept = set() if matrix is None else {id(p) for p in matrix.parameters()}
    return {
        name for name, p in network.named_parameters() if depth[name] == top and id(p) not in kept
    }


def keep(network: nn.Module, source: nn.Module, wanted: Sequence[str]) -> None:
    """Give a fresh network its source's weights in these layers; the others are noted as new.

    Raises:
        InvalidSpec: an entry means nothing in this network, or a layer that the source does not have.
    """
    kept = select(network, wanted, param="transfer.layers")
    missing = kept & new_parameters(source)
    if missing:
        message = f"transfer.layers: the source has no weights for {min(missing)!r}"
        raise InvalidSpec(message, param="transfer.layers", code="layer_not_found")
    weights = dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in kept:
                parameter.copy_(weights[name])
    noted(network, [name for name, _ in network.named_parameters() if name not in kept])


def select(network: nn.Module, wanted: Sequence[str], param: str = "method.freeze") -> set[str]:
    """Return the names of the parameters that are meant by `wanted`, which the spec has in `param`.

    Each entry is "embeddings", "head", a block's number from 0 or a range ("3", "0-3"), or a pattern
    of parameter names ("*.attention.*").

    Raises:
        InvalidSpec: an entry means nothing in this network.
    """
    depth, top = depths(network), top_of(network)
    chosen: set[str] = set()
    for entry in wanted:
        blocks = RANGE.fullmatch(entry)
        if entry == "embeddings":
            found = {name for name in depth if depth[name] == 0}
        elif entry == "head":
            found = head_names(network)
        elif blocks is not None:
            first, last = int(blocks[1]), int(blocks[2] or blocks[1])
            found = {
                name for name in depth if first < depth[name] <= last + 1 and depth[name] < top
            }
        else:
            found = {name for name in depth if fnmatchcase(name, entry)}
        if not found:
            message = (
                f"no layer {entry!r} in this model; there are embeddings, head, blocks 0-{top - 2}, and "
                f"patterns of names such as {next(iter(depth))!r}"
            )
            raise InvalidSpec(f"{param}: {message}", param=param, code="layer_not_found")
        chosen |= found
    return chosen


def _names(network: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, _ in network.named_parameters())


@lru_cache(maxsize=16)
def _depths(names: tuple[str, ...]) -> tuple[dict[str, int], int]:
    stacks: dict[str, int] = {}  # prefix of a stack of blocks -> its number of blocks, in order
    for name in names:
        found = BLOCK.search(name)
        if found is not None:
            prefix = name[: found.start(1)]
            stacks[prefix] = max(stacks.get(prefix, 0), int(found[1]) + 1)
    below: dict[str, int] = {}
    offset = 0
    for prefix, count in stacks.items():
        below[prefix] = offset
        offset += count
    top = offset + 1
    return {name: _depth(name, below, top) for name in names}, top


def groups_by_depth(
    network: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return optimizer groups from the top down, each depth's rate `layer_decay` times that above it.

    Parameters that do not train are left out. Within a depth, matrices decay and vectors do not.
    """
    depth = depths(network)
    top = max(depth.values())
    groups: list[dict[str, Any]] = []
    for level in range(top, -1, -1):
        members = [
            p for name, p in network.named_parameters() if depth[name] == level and p.requires_grad
        ]
        rate = learning_rate * layer_decay ** (top - level)
        groups += decay_groups(members, learning_rate=rate, weight_decay=weight_decay)
    return groups


def decay_groups(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return up to two groups: matrices with decay, vectors (biases, normalization) without."""
    trainable = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]
    return [
        {"params": members, "lr": learning_rate, "weight_decay": decay}
        for members, decay in ((matrices, weight_decay), (vectors, 0.0))
        if members
    ]


def _depth(name: str, below: dict[str, int], top: int) -> int:
    found = BLOCK.search(name)
    if found is not None:
        return below[name[: found.start(1)]] + int(found[1]) + 1
    return 0 if EMBEDDINGS.search(name) else top
