"""The torch half: transformers' sequence-classification models, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from app.adapt.architectures.features import FeatureConfig, load_encoders, make_classifier
from app.adapt.network import TransformerNetwork, inputs_of, noted, pad
from app.adapt.outputs import Answer, Batch, Outputs

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded
    from app.adapt.task import Scores
    from app.adapt.tasks.text_classification.config import TextClassification

PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
ANSWERS: dict[str, Answer] = {
    "single_label_classification": "class",
    "multi_label_classification": "labels",
    "regression": "number",
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

    def load_probe(
        self, task: TextClassification, folders: Sequence[Path], method: Any
    ) -> nn.Module:
        """Build a linear head on the features of the encoders in these folders."""
        config = FeatureConfig(
            layers=method.layers, poolings=method.poolings, normalize=method.normalize
        )
        self.configure(task, config)
        network = make_classifier(config, load_encoders(folders))
        return noted(network, ["classifier.weight", "classifier.bias"])

    def features(self, network: nn.Module, batch: Batch, encoded: Sequence[Encoded]) -> list[Any]:
        """Return (1, D) of each row: its pooled states."""
        del encoded
        rows_BD = cast("Any", network).features(self.encoder_inputs(batch)).float().cpu().numpy()
        return list(rows_BD[:, None])

    def answers(self, encoded: Encoded) -> list[Any]:
        """Return the row's one target."""
        return [encoded.target]

    def scores_of_answers(self, encoded: Encoded, logits: Scores) -> Scores:
        """Return the one answer's logits."""
        del encoded
        return logits[0]

    def collate(self, task: TextClassification, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Pad what each encoder reads; only features of several have more than one."""
        batch = super().collate(task, encoded, pad_id)
        for number in range(len(encoded[0].others)):
            # Their own tokenizers' padding; what a mask hides may be any token.
            ids_BT, mask_BT = pad([item.others[number] for item in encoded], 0)
            batch.others[f"ids_{number}"], batch.others[f"mask_{number}"] = ids_BT, mask_BT
        return batch

    def encoder_inputs(self, batch: Batch) -> list[dict[str, torch.Tensor]]:
        """Return the inputs of each encoder."""
        further = [
            {"input_ids": batch.others[f"ids_{n}"], "attention_mask": batch.others[f"mask_{n}"]}
            for n in range(len(batch.others) // 2)
        ]
        return [inputs_of(batch), *further]

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Return logits (B, C)."""
        first, *further = self.encoder_inputs(batch)
        options = {"further": further} if further else {}
        made: Any = network
        logits = made(**first, **options).logits
        answer = ANSWERS[made.config.problem_type]
        return Outputs(logits=logits, mask_BT=batch.mask_BT, answer=answer)

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
