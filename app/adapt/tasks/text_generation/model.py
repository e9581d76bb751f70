"""The torch half: transformers' decoders, for answers to be learned and pairs to be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from app.adapt.layers.generating import write
from app.adapt.layers.language import IGNORED, sequence_log_probabilities, token_scores
from app.adapt.layers.packing import pack, packed, packed_logits
from app.adapt.layers.prompt import without_prompt
from app.adapt.network import TransformerNetwork, pad
from app.adapt.outputs import Batch, Encoded, Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

PAIR = 2
ANNOTATED = 8  # pairs that go through the reference at once


class GenerationNetwork(TransformerNetwork):
    """Logits (B, T, V) of each next token; of pairs (B, 2, T, V), the chosen answer first."""

    model_class = AutoModelForCausalLM

    def collate(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Join prompts and answers. The target at t is token t + 1, -100 where it is not learned."""
        if encoded[0].target is None:
            ids_BT, mask_BT = pad([item.input_ids for item in encoded], pad_id)
            return Batch(input_ids_BT=ids_BT, mask_BT=mask_BT)
        if task.form != "preference":
            return _batch([_joined(item, item.target) for item in encoded], pad_id)
        sides = [_joined(item, answer) for item in encoded for answer in item.target]
        batch = _batch(sides, pad_id)
        if batch.target is not None:
            batch = replace(batch, target=batch.target.unflatten(0, (-1, PAIR)))
        if "reference" in encoded[0].extra:
            reference = torch.tensor([item.extra["reference"] for item in encoded])
            batch.others["reference"] = reference
        return batch

    def pack(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Lay short sequences side by side; where that saves next to nothing, pad them."""
        rows = pack([len(item) for item in encoded])
        if len(rows) == len(encoded):
            return self.collate(task, encoded, pad_id)
        joined = [_joined(item, item.target) for item in encoded]
        return packed([[joined[index] for index in row] for row in rows], pad_id, IGNORED)

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network."""
        if "position_ids" in batch.others:
            logits = without_prompt(network, packed_logits(network, batch))
            return Outputs(logits=logits, mask_BT=batch.mask_BT)
        made: Any = network
        logits = made(
            input_ids=batch.input_ids_BT, attention_mask=batch.mask_BT, use_cache=False
        ).logits
        logits = without_prompt(made, logits)
        if batch.target is not None and batch.target.ndim == 3:  # noqa: PLR2004 - (B, 2, T)
            logits = logits.unflatten(0, (-1, PAIR))
        return Outputs(logits=logits, mask_BT=batch.mask_BT)

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return the figures of a row's tokens, or (2,) rewards of a pair's answers."""
        if task.form != "preference":
            return token_scores(outputs.logits, batch.target)
        sums_B2 = sequence_log_probabilities(outputs.logits, batch.target)
        reference_B2 = batch.others.get("reference", torch.zeros_like(sums_B2))
        return list((sums_B2 - reference_B2).float().cpu().numpy())

    @torch.no_grad()
    def annotate(
        self, task: Any, network: nn.Module, encoded: list[Encoded], pad_id: int
    ) -> list[Encoded]:
        """Note of each pair what the untouched network, the reference of DPO, makes of its answers."""
        if task.form != "preference":
            return encoded
        device = next(network.parameters()).device
        noted: list[Encoded] = []
        for start in range(0, len(encoded), ANNOTATED):
            items = encoded[start : start + ANNOTATED]
            batch = self.collate(task, items, pad_id).to(device)
            sums_B2 = sequence_log_probabilities(self.forward(network, batch).logits, batch.target)
            noted += [
                replace(item, extra={**item.extra, "reference": sums})
                for item, sums in zip(items, sums_B2.tolist(), strict=True)
            ]
        return noted

    def generate(
        self, task: Any, network: nn.Module, encoded: Sequence[Encoded],
        tokenizer: PreTrainedTokenizerBase, parameters: Any, emit: Callable[[str], None] | None = None,
    ) -> list[Any]:  # fmt: skip
        """Write the answers to each prompt; prompts are padded on the left, so that all end together."""
        del task
        made: Any = network
        pad_id: Any = tokenizer.pad_token_id
        pad_id = tokenizer.eos_token_id if pad_id is None else pad_id
        # A text has nothing to answer: it is its own prompt.
        ids_BT, mask_BT = pad([item.input_ids for item in encoded], pad_id or 0, left=True)
        inputs = {"input_ids": ids_BT.to(made.device), "attention_mask": mask_BT.to(made.device)}
        return write(made, inputs, tokenizer, parameters, emit=emit, pad_token_id=pad_id or 0)


def _joined(item: Encoded, answer: list[int]) -> tuple[list[int], list[int]]:
    """Return a sequence and its targets."""
    ids = [*item.input_ids, *answer]
    learned = item.extra.get("learned") or [False] * len(item.input_ids)
    wanted = [*learned, *([True] * len(answer))]
    following = zip(ids[1:], wanted[1:], strict=True)
    return ids, [*(token if is_learned else IGNORED for token, is_learned in following), IGNORED]


def _batch(rows: Sequence[tuple[list[int], list[int]]], pad_id: int) -> Batch:
    ids_BT, mask_BT = pad([ids for ids, _ in rows], pad_id)
    target_BT, _ = pad([targets for _, targets in rows], IGNORED)
    return Batch(input_ids_BT=ids_BT, mask_BT=mask_BT, target=target_BT)
