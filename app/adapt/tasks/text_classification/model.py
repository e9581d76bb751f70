"""The torch half: transformers' sequence-classification models, as they are.

What is saved is what `save_pretrained` saves, so the folder works with plain transformers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from app.adapt.outputs import Batch, Encoded, Outputs

if TYPE_CHECKING:
    from app.adapt.tasks.text_classification.config import TextClassification

PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


class ClassificationNetwork:
    """See `app.adapt.task.Network`."""

    def load(self, task: TextClassification, folder: Path, *, fresh: bool = False) -> nn.Module:
        """Build the network; the head is new whenever the folder has none of the right width."""
        labels = task.labels or ["score"]
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        config.num_labels = task.num_outputs
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        config.problem_type = PROBLEM_TYPES[task.fitted_problem]
        if fresh:
            return cast("nn.Module", AutoModelForSequenceClassification.from_config(config))
        return cast(
            "nn.Module",
            AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,
            ),
        )

    def collate(self, task: TextClassification, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Pad on the right to the longest member."""
        longest = max(len(item) for item in encoded)
        ids = torch.full((len(encoded), longest), pad_id, dtype=torch.long)
        mask = torch.zeros((len(encoded), longest), dtype=torch.long)
        types = torch.zeros_like(ids) if encoded[0].token_type_ids is not None else None
        for row, item in enumerate(encoded):
            ids[row, : len(item)] = torch.tensor(item.input_ids)
            mask[row, : len(item)] = 1
            if types is not None and item.token_type_ids is not None:
                types[row, : len(item)] = torch.tensor(item.token_type_ids)
        has_targets = encoded[0].target is not None
        target = self._target(task, encoded) if has_targets else None
        return Batch(input_ids_BT=ids, mask_BT=mask, token_type_ids_BT=types, target=target)

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Return logits (B, C)."""
        inputs: dict[str, Any] = {
            "input_ids": batch.input_ids_BT,
            "attention_mask": batch.mask_BT,
        }
        if batch.token_type_ids_BT is not None:
            inputs["token_type_ids"] = batch.token_type_ids_BT
        return Outputs(logits=network(**inputs).logits, mask_BT=batch.mask_BT)

    def save(self, network: nn.Module, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        cast("Any", network).save_pretrained(folder, safe_serialization=True)

    def _target(self, task: TextClassification, encoded: Sequence[Encoded]) -> torch.Tensor:
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
