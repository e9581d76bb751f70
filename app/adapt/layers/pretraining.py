"""The torch halves of objectives: targets at each token, or written by a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from app.adapt.layers.language import IGNORED, token_scores
from app.adapt.layers.packing import packed_logits
from app.adapt.layers.text_to_text import TextToTextNetwork
from app.adapt.network import TransformerNetwork, pad
from app.adapt.outputs import Batch, Encoded, Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TokenNetwork(TransformerNetwork):
    """Logits (B, T, V); targets (B, T) are those of the rows, -100 where there is none.

    Rows with `extra["positions"]` hold several documents, which positions that begin anew keep apart; what
    fills such a row up has position 0 throughout.
    """

    def collate(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Pad rows and their targets to the longest."""
        del task
        ids_BT, mask_BT = pad([item.input_ids for item in encoded], pad_id)
        target_BT, _ = pad([item.target for item in encoded], IGNORED)
        batch = Batch(input_ids_BT=ids_BT, mask_BT=mask_BT, target=target_BT)
        if "positions" in encoded[0].extra:
            batch.others["position_ids"], _ = pad([item.extra["positions"] for item in encoded], 0)
        return batch

    def pack(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Do the same: rows are full already."""
        return self.collate(task, encoded, pad_id)

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network."""
        if "position_ids" in batch.others:
            return Outputs(logits=packed_logits(network, batch), mask_BT=batch.mask_BT)
        made: Any = network
        logits = made(input_ids=batch.input_ids_BT, attention_mask=batch.mask_BT).logits
        return Outputs(logits=logits, mask_BT=batch.mask_BT)

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return the figures of each row's targets."""
        del task
        return token_scores(outputs.logits, batch.target)


class SpanNetwork(TextToTextNetwork):
    """An encoder-decoder as it is, whose rows are full already."""

    def pack(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Make the batch that `collate` makes."""
        return self.collate(task, encoded, pad_id)
