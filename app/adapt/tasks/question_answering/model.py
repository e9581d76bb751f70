"""The torch half: transformers' question-answering models, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModelForQuestionAnswering

from app.adapt.network import TransformerNetwork, inputs_of
from app.adapt.outputs import Batch, Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.adapt.outputs import Encoded


class AnswerNetwork(TransformerNetwork):
    """Logits (B, T, 2) of being the answer's first and its last token."""

    model_class = AutoModelForQuestionAnswering

    def configure(self, task: Any, config: Any) -> None:
        """Give the head its two outputs."""
        del task
        config.num_labels = 2

    def target(self, task: Any, encoded: Sequence[Encoded], shape: tuple[int, int]) -> torch.Tensor:
        """Return token positions (B, 2)."""
        del task, shape
        return torch.tensor([item.target for item in encoded], dtype=torch.long)

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network; padding can be no answer."""
        answer = network(**inputs_of(batch))
        logits_BT2 = torch.stack([answer.start_logits, answer.end_logits], dim=-1).float()
        hidden_BT1 = (batch.mask_BT == 0).unsqueeze(-1)
        logits_BT2 = logits_BT2.masked_fill(hidden_BT1, torch.finfo(logits_BT2.dtype).min)
        return Outputs(logits=logits_BT2, mask_BT=batch.mask_BT, answer="span")

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return logits (T, 2) of each row without its padding."""
        del task
        lengths = batch.mask_BT.sum(dim=1).tolist()
        logits_BT2 = outputs.logits.float().cpu().numpy()
        return [row[:length] for row, length in zip(logits_BT2, lengths, strict=True)]
