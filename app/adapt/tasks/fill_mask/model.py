"""The torch half: transformers' masked language models, with other tokens hidden in each step."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForMaskedLM

from app.adapt.layers.language import IGNORED, token_scores
from app.adapt.network import TransformerNetwork
from app.adapt.outputs import Batch, Encoded, Outputs
from app.adapt.soft_prompt import prompt_ids

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HIDDEN, CHANGED = (
    0.8,
    0.9,
)  # 80 % become the mask, 10 % another token, 10 % stay: Devlin et al. 2019, A.1


class MaskNetwork(TransformerNetwork):
    """Logits (B, T, V) of each token."""

    model_class = AutoModelForMaskedLM

    def collate(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Pad, and hide tokens: in training others in each step, in an evaluation always the same.

        What is drawn in training comes from torch's generator, which is seeded for each step; in an
        evaluation it depends on the row alone.
        """
        batch = super().collate(task, [_without_target(item) for item in encoded], pad_id)
        tokenizer = encoded[0].extra["tokenizer"]
        if encoded[0].target is None:
            batch.others["masked"] = batch.input_ids_BT == tokenizer.mask_token_id
            return batch
        prompt = prompt_ids(tokenizer)
        words = len(tokenizer) - len(prompt)  # a soft prompt's tokens are the last ones
        target_BT = torch.full_like(batch.input_ids_BT, IGNORED)
        for row, item in enumerate(encoded):
            generator = None if torch.is_grad_enabled() else _generator_of(item, prompt)
            places = torch.tensor(item.extra["maskable"])
            chosen = places[torch.randperm(len(places), generator=generator)[: item.units]]
            target_BT[row, chosen] = batch.input_ids_BT[row, chosen]
            luck = torch.rand(len(chosen), generator=generator)
            other = torch.randint(words, (len(chosen),), generator=generator)
            batch.input_ids_BT[row, chosen[luck < HIDDEN]] = tokenizer.mask_token_id
            is_changed = (luck >= HIDDEN) & (luck < CHANGED)
            batch.input_ids_BT[row, chosen[is_changed]] = other[is_changed]
        return Batch(batch.input_ids_BT, batch.mask_BT, batch.token_type_ids_BT, target_BT)

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return the figures of the hidden tokens; without targets the logits (M, V) of the masks."""
        del task
        if batch.target is not None:
            return token_scores(outputs.logits, batch.target)
        rows = zip(outputs.logits.float(), batch.others["masked"], strict=True)
        return [logits_TV[masked_T].cpu().numpy() for logits_TV, masked_T in rows]


def _without_target(item: Encoded) -> Encoded:
    return Encoded(item.input_ids, token_type_ids=item.token_type_ids)


def _generator_of(item: Encoded, prompt: Sequence[int]) -> torch.Generator:
    """Return the generator of a row; with a soft prompt or without, the same words are hidden."""
    content = ",".join(str(token) for token in item.input_ids if token not in prompt).encode()
    return torch.Generator().manual_seed(zlib.crc32(content))
