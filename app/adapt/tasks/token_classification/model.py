"""The torch half: transformers' token-classification models, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForTokenClassification

from app.adapt.network import TransformerNetwork
from app.adapt.tasks.token_classification.data import IGNORED
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.adapt.outputs import Batch, Encoded, Outputs
    from app.adapt.task import Scores
    from app.adapt.tasks.token_classification.config import TokenClassification


class TaggingNetwork(TransformerNetwork):
    """Logits (B, T, C) of an encoder."""

    model_class = AutoModelForTokenClassification

    def configure(self, task: TokenClassification, config: Any) -> None:
        """Set the head's width and the labels' names."""
        labels = task.labels
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}

    def load_probe(
        self, task: TokenClassification, folders: Sequence[Path], method: Any
    ) -> nn.Module:
        """Build the network as it is: its head is linear on the last layer's states of each token.

        Raises:
            InvalidSpec: this encoder's head is another, or other features are asked for.
        """
        if len(folders) > 1 or method.layers != [-1] or method.poolings != ["mean"]:
            message = (
                f"method {method.name()}: of {task.name()}, a head is fitted on the last layer's states of "
                "each token; leave layers, poolings and further encoders out"
            )
            raise InvalidSpec(message, param="method", code="method_does_not_fit")
        network: Any = self.load(task, folders[0])
        if not isinstance(getattr(network, "classifier", None), nn.Linear):
            message = f"method {method.name()} does not fit this model: its head is not linear"
            raise InvalidSpec(message, param="method", code="method_does_not_fit")
        return network

    def features(self, network: nn.Module, batch: Batch, encoded: Sequence[Encoded]) -> list[Any]:
        """Return (n, D) of each row: what the head reads of the first piece of each of its words."""
        found: list[torch.Tensor] = []

        def note(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            found.append(inputs[0])

        handle = cast("Any", network).classifier.register_forward_pre_hook(note)
        try:
            self.forward(network, batch)
        finally:
            handle.remove()
        states_BTD = found[0].float().cpu().numpy()
        return [row[item.extra["pieces"]] for row, item in zip(states_BTD, encoded, strict=True)]

    def answers(self, encoded: Encoded) -> list[Any]:
        """Return the label of the first piece of each word."""
        return [encoded.target[at] for at in encoded.extra["pieces"]]

    def scores_of_answers(self, encoded: Encoded, logits: Scores) -> Scores:
        """Return (T, C), 0 where no word begins."""
        scores_TC = np.zeros((len(encoded.input_ids), logits.shape[-1]), dtype=np.float32)
        scores_TC[encoded.extra["pieces"]] = logits
        return scores_TC

    def target(
        self, task: TokenClassification, encoded: Sequence[Encoded], shape: tuple[int, int]
    ) -> torch.Tensor:
        """Return label indices (B, T), -100 where no answer is asked for."""
        del task
        target_BT = torch.full(shape, IGNORED, dtype=torch.long)
        for row, item in enumerate(encoded):
            target_BT[row, : len(item.target)] = torch.tensor(item.target, dtype=torch.long)
        return target_BT

    def scores(
        self, task: TokenClassification, outputs: Outputs, batch: Batch
    ) -> Sequence[NDArray[np.float32]]:
        """Return logits (T, C) of each row without its padding."""
        del task
        logits_BTC = outputs.logits.float().cpu().numpy()
        lengths = batch.mask_BT.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(logits_BTC, lengths, strict=True)]
