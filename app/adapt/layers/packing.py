"""Packing: short sequences side by side in one row instead of padding, none of them seeing another.

A row is never longer than the longest sequence of its batch, so that attention, whose cost grows with the
square of a row's length, costs at most what it costs with padding. Borders are told to the network by
positions that begin anew, without a mask: transformers (since 4.54) makes a block-diagonal one of them, as
its attention (sdpa, eager, flex) wants it. `keeps_apart` tries whether it did.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from app.adapt.outputs import Batch

MIN_SAVING = 0.1  # of the rows; less does not pay for the block-diagonal mask (docs/results.md)
TRIAL = ([1, 2, 3], [4, 5], [6, 7, 8])  # token ids; the first two do not fit into three tokens
TOLERANCE = 1e-3  # of the greatest logit; a border that is not kept moves logits by far more


def pack(lengths: Sequence[int]) -> list[list[int]]:
    """Return which sequences share a row; where that saves too little, each has one of its own.

    First-fit decreasing: the longest first, each into the first row with room; at most 11/9 of the fewest
    rows that there could be, and a few (Johnson 1973).
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    rows: list[list[int]] = []
    room: dict[int, int] = {}  # of the rows in which the shortest still fits
    for index in order:
        size = lengths[index]
        place = next((row for row, free in room.items() if size <= free), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room[place] = lengths[order[0]]
        rows[place].append(index)
        room[place] -= size
        if room[place] < lengths[order[-1]]:
            del room[place]
    pays = len(rows) <= (1 - MIN_SAVING) * len(lengths)
    return rows if pays else [[index] for index in range(len(lengths))]


def packed(
    rows: Sequence[Sequence[tuple[list[int], list[int]]]], pad_id: int, ignored: int
) -> Batch:
    """Return a batch (rows, T) of sequences given by their tokens and targets, with `position_ids`.

    What fills a row up has position 0 throughout: each such token is a sequence of its own.
    """
    width = max(sum(len(ids) for ids, _ in row) for row in rows)
    ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
    target_BT = torch.full_like(ids_BT, ignored)
    positions_BT, mask_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT)
    for number, row in enumerate(rows):
        begin = 0
        for ids, targets in row:
            place = slice(begin, begin + len(ids))
            ids_BT[number, place] = torch.tensor(ids, dtype=torch.long)
            target_BT[number, place] = torch.tensor(targets, dtype=torch.long)
            positions_BT[number, place] = torch.arange(len(ids))
            mask_BT[number, place] = 1
            begin = place.stop
    others = {"position_ids": positions_BT}
    return Batch(input_ids_BT=ids_BT, mask_BT=mask_BT, target=target_BT, others=others)


def packed_logits(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Run a network on a packed batch; (rows, T, V)."""
    made: Any = network
    return made(
        input_ids=batch.input_ids_BT,
        position_ids=batch.others["position_ids"],
        use_cache=False,
    ).logits


@torch.no_grad()
def keeps_apart(network: nn.Module) -> bool:
    """Say whether a network tells sequences apart by their positions; found out by trying.

    Attention of today does. Recurrent layers do not, nor do models that count positions themselves.
    """
    made: Any = network
    if "position_ids" not in inspect.signature(made.forward).parameters:
        return False
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    sequences = [(ids, [0] * len(ids)) for ids in TRIAL]
    batch = packed([sequences[:2], sequences[2:]], 0, 0).to(device)
    together_BTV = packed_logits(network, batch)
    alone = [
        made(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0]
        for ids in TRIAL
    ]
    network.train(was_training)
    found = torch.cat([together_BTV[0], together_BTV[1, : len(TRIAL[2])]])
    expected = torch.cat(alone)
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())
