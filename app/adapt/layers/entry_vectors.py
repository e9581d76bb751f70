"""What an encoder says of each entry of its vocabulary by itself.

Shapes: V entries, B of them in a batch, T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from app.adapt.architectures.features import pool

BATCH = 256


@torch.inference_mode()
def entry_vectors(
    encoder: PreTrainedModel, ids: Sequence[int], before: Sequence[int], after: Sequence[int]
) -> NDArray[np.float32]:
    """Return the mean of the last states (V, H) of each entry, read between the marks that frame a text."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = cast("Any", encoder.eval()).to(device)
    before_T, after_T = torch.tensor(before), torch.tensor(after)
    parts: list[NDArray[np.float32]] = []
    for entry_B in torch.tensor(ids).split(BATCH):
        columns = [before_T.expand(len(entry_B), -1), entry_B[:, None]]
        ids_BT = torch.cat([*columns, after_T.expand(len(entry_B), -1)], dim=1).long().to(device)
        mask_BT = torch.ones_like(ids_BT)
        states_BTH = made(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        parts.append(pool(states_BTH.float(), mask_BT, "mean").cpu().numpy())
    return np.concatenate(parts)
