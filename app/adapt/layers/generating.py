"""Writing text with transformers' `generate`: what encoder-decoders and decoders share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from app.adapt.layers.pieces import Pieces
from app.adapt.outputs import Generated

if TYPE_CHECKING:
    from torch import Tensor

    from app.adapt.generation import GenerationParameters


def write(
    network: Any, inputs: dict[str, Tensor], tokenizer: Any, parameters: GenerationParameters,
    emit: Callable[[str], None] | None = None, **changes: Any,
) -> list[list[Generated]]:  # fmt: skip
    """Return the answers to each row of (B, T) inputs; a decoder's are without their prompt.

    With `emit`, there is one row, and each piece of its text goes there as soon as it is written. With a
    seed each row is drawn by itself, so that it does not depend on its neighbours in the batch.
    """
    config = copy.deepcopy(network.generation_config)
    # What the base model brings (its limits, its beams) would go before what was asked for.
    config.update(max_length=None, **parameters.options(), **changes)
    streamer = None if emit is None else Pieces(tokenizer, emit)
    rows = next(iter(inputs.values())).shape[0]
    if parameters.do_sample and parameters.seed is not None and rows > 1:
        return [
            answer
            for row in range(rows)
            for answer in write(
                network,
                {name: tensor[row : row + 1] for name, tensor in inputs.items()},
                tokenizer,
                parameters,
                **changes,
            )
        ]
    if parameters.do_sample and parameters.seed is not None:
        devices = [network.device] if network.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(parameters.seed)
            sequences = network.generate(**inputs, generation_config=config, streamer=streamer)
    else:
        sequences = network.generate(**inputs, generation_config=config, streamer=streamer)
    prompt = 1 if network.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    ends = ends_of(network, tokenizer)
    found = [finished(row[prompt:], ends, tokenizer) for row in sequences.tolist()]
    count = parameters.num_return_sequences
    return [found[start : start + count] for start in range(0, len(found), count)]


def finished(ids: Sequence[int], ends: frozenset[int], tokenizer: Any) -> Generated:
    """Return what a row of token ids says up to its first ending token."""
    end = next((at for at, token in enumerate(ids) if token in ends), None)
    kept = list(ids if end is None else ids[:end])
    text = tokenizer.decode(kept, skip_special_tokens=True)
    return Generated(text.strip(), kept, "length" if end is None else "stop")


def ends_of(network: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer."""
    given = network.generation_config.eos_token_id
    if given is None:
        given = tokenizer.eos_token_id
    return frozenset(given if isinstance(given, list) else [] if given is None else [given])
