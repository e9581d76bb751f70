"""The torch half: transformers' sequence-classification models, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSequenceClassification

from app.adapt.network import TransformerNetwork

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded
    from app.adapt.tasks.text_classification.config import TextClassification

PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


class ClassificationNetwork(TransformerNetwork):
    """Logits (B, C) of an encoder, or of a decoder's last token."""

    model_class = AutoModelForSequenceClassification

    def configure(self, task: TextClassification, config: Any) -> None:
        """Set the head's width and the labels' names."""
        labels = task.labels or ["score"]
        config.num_labels = task.num_outputs
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        config.problem_type = PROBLEM_TYPES[task.fitted_problem]

    def target(
        self, task: TextClassification, encoded: Sequence[Encoded], shape: tuple[int, int]
    ) -> torch.Tensor:
        """Return indices (B,), numbers (B,) or many-hot rows (B, C)."""
        del shape
        targets = [item.target for item in encoded]
        match task.fitted_problem:
            case "single_label":
                return torch.tensor(targets, dtype=torch.long)
            case "regression":
                return torch.tensor(targets, dtype=torch.float32)
            case "multi_label":
                many_hot_BC = torch.zeros((len(targets), task.num_outputs))
                for row, indices in enumerate(targets):
                    many_hot_BC[row, indices] = 1.0
                return many_hot_BC
