"""From examples to token ids, and from what they come to in tokens to a spec without any "auto"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch

from app.adapt.coverage import unknown_tokens
from app.adapt.lengths import tell_of_encoded
from app.adapt.outputs import Encoded
from app.adapt.task import Example, Task
from app.adapt.tokenizers import Tokenizers
from app.spec.resolve import Facts, S, resolve
from workers.recipes.sources import token_id
from workers.training.device import free_memory_bytes, has_bf16
from workers.training.report import Report

Sets = dict[str, list[Encoded]]


@dataclass(frozen=True)
class Room:
    """What a network has room for: its size and longest input, and the device it runs on; how it trains."""

    num_parameters: int
    max_length: int
    device: torch.device
    full_rate: float | None = None
    is_fresh: bool = False


def encode_sets(
    spec: S, examples: Mapping[str, Sequence[Example]], tokenizers: Tokenizers, room: Room,
    report: Report, data_report: dict[str, Any],
) -> tuple[S, Sets, Facts]:  # fmt: skip
    """Tokenize every set for the spec's fitted task.

    Once at full length: the length that is resolved from it only cuts. How many examples are longer goes
    into `data_report` too.
    """
    task = spec.task
    full = tokenizers.encode(task, examples["train"], room.max_length)
    unknown = token_id(tokenizers.first.unk_token_id)
    warning = unknown_tokens((item.input_ids for item in full), unknown)
    if warning is not None:
        report.log(f"train: {warning}", "warning")
    facts = Facts(
        lengths=[len(item) for item in full],
        longest=[item.longest for item in full],
        num_parameters=room.num_parameters,
        model_max_length=room.max_length,
        memory_bytes=free_memory_bytes(room.device),
        device=room.device.type,
        has_bf16=has_bf16(room.device),
        full_rate=room.full_rate,
        is_fresh=room.is_fresh,
    )
    resolved = resolve(spec, facts)
    length = int(resolved.optimization.max_length)
    sets = {
        name: tokenizers.encode(task, items, length) if items else []
        for name, items in examples.items()
        if name != "train"
    }
    sets["train"] = recut(task, tokenizers, examples["train"], full, length)
    for line in tell_of_encoded(task, data_report, sets, length):
        report.log(line)
    return resolved, sets, facts


def recut(
    task: Task,
    tokenizers: Tokenizers,
    examples: Sequence[Example],
    full: list[Encoded],
    length: int,
) -> list[Encoded]:
    """Encode again what is longer than `length`; return all rows."""
    long = sorted({item.example for item in full if item.longest > length})
    if not long:
        return full
    again: dict[int, list[Encoded]] = {example: [] for example in long}
    for item in tokenizers.encode(task, [examples[example] for example in long], length):
        example = long[item.example]
        again[example].append(replace(item, example=example))
    rows: list[Encoded] = []
    for example, members in groupby(full, key=lambda item: item.example):
        rows += again.get(example, members)
    return rows
