"""A linear head on pooled features of one or several encoders: an architecture of our own.

It is registered with transformers' Auto classes, so what loads any other model loads this one. Frozen, it
is a linear probe; trained as a whole, it is a classifier on mean-pooled states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class FeatureConfig(PreTrainedConfig):
    """Which encoders there are (their own configs), and what is taken of them."""

    model_type = "attune-features"

    encoders: list[dict[str, Any]] | None = None
    layers: list[int] | None = None
    poolings: list[str] | None = None
    normalize: bool = True
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    pad_token_id: int | None = None


class FeatureClassifier(PreTrainedModel):
    """Logits of features: of each encoder, each of its layers in each pooling, side by side."""

    config_class = FeatureConfig
    base_model_prefix = "encoders"
    _supports_sdpa = True

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__(config)
        self.encoders = nn.ModuleList(
            _bare(AutoModel.from_config(_config_of(encoder))) for encoder in config.encoders or []
        )
        self.classifier = _head(config)
        self.post_init()

    def features(self, inputs: Sequence[dict[str, Tensor]]) -> Tensor:
        """Return the features (B, D); `inputs` are each encoder's own, tokenized by its own tokenizer."""
        config = cast("FeatureConfig", self.config)
        parts: list[Tensor] = []
        for encoder, given in zip(self.encoders, inputs, strict=True):
            states = encoder(**given, output_hidden_states=True).hidden_states
            for layer in config.layers or []:
                for pooling in config.poolings or []:
                    part_BH = pool(states[layer], given["attention_mask"], pooling)
                    parts.append(
                        functional.normalize(part_BH, dim=-1) if config.normalize else part_BH
                    )
        return torch.cat(parts, dim=-1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None,
        further: Sequence[dict[str, Tensor]] = (),
    ) -> SequenceClassifierOutput:  # fmt: skip
        """Return logits (B, C); `further` are the inputs of the second encoder and those after it."""
        first = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            first["token_type_ids"] = token_type_ids
        return SequenceClassifierOutput(logits=self.classifier(self.features([first, *further])))

    def get_input_embeddings(self) -> nn.Module:
        """Return the first encoder's."""
        return cast("Any", self.encoders[0]).get_input_embeddings()


def pool(states_BTH: Tensor, mask_BT: Tensor, pooling: str) -> Tensor:
    """Return (B, H): the mean or maximum over the tokens that count, or the first or last of them."""
    mask_BT1 = mask_BT.unsqueeze(-1).to(states_BTH.dtype)
    match pooling:
        case "mean":
            return (states_BTH * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1)
        case "max":
            return states_BTH.masked_fill(mask_BT1 == 0, -torch.inf).amax(dim=1)
        case "cls":
            return states_BTH[:, 0]
        case _:
            last_B = mask_BT.sum(dim=1).long() - 1
            return states_BTH[torch.arange(len(states_BTH)), last_B]


def feature_width(config: FeatureConfig) -> int:
    """Return D, the number of features."""
    sizes = [
        _state_size(_config_of(encoder), layer)
        for encoder in config.encoders or []
        for layer in config.layers or []
    ]
    return len(config.poolings or []) * sum(sizes)


def load_encoders(folders: Sequence[Path]) -> list[PreTrainedModel]:
    """Return the encoders of model folders; a folder of this architecture has several."""
    found: list[PreTrainedModel] = []
    for folder in folders:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        options: dict[str, Any] = {
            "dtype": torch.float32,
            "use_safetensors": True,
            "local_files_only": True,
        }
        if isinstance(config, FeatureConfig):
            whole: Any = FeatureClassifier.from_pretrained(folder, config=config, **options)
            found += list(whole.encoders)
        else:
            model: Any = AutoModel.from_pretrained(folder, config=config, **options)
            found.append(_bare(model.get_encoder() if config.is_encoder_decoder else model))
    return found


def make_classifier(
    config: FeatureConfig, encoders: Sequence[PreTrainedModel]
) -> FeatureClassifier:
    """Return a classifier of these encoders with a new head; fills in what the config takes from them."""
    config.encoders = [_described(encoder) for encoder in encoders]
    first: Any = encoders[0].config
    config.vocab_size, config.pad_token_id = first.vocab_size, first.pad_token_id
    positions = [getattr(encoder.config, "max_position_embeddings", None) for encoder in encoders]
    config.max_position_embeddings = min((p for p in positions if p is not None), default=None)
    with torch.device("meta"):
        network = FeatureClassifier(config)
    network.classifier = _head(config)
    network.encoders = nn.ModuleList(encoders)
    return network


def _bare(encoder: Any) -> PreTrainedModel:
    """Leave out BERT's pooler, which the features do without."""
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder


def _head(config: FeatureConfig) -> nn.Linear:
    return nn.Linear(feature_width(config), cast("Any", config).num_labels)


def _described(encoder: PreTrainedModel) -> dict[str, Any]:
    """Return an encoder's config without where it was loaded from."""
    return {key: value for key, value in encoder.config.to_dict().items() if key[0] != "_"}


def _state_size(config: Any, layer: int) -> int:
    """Return the width of a hidden state; a network whose states differ in width says so."""
    sizes: list[int] | None = getattr(config, "state_sizes", None)
    return config.hidden_size if sizes is None else sizes[layer]


def _config_of(encoder: dict[str, Any]) -> Any:
    return AutoConfig.for_model(**encoder)


AutoConfig.register("attune-features", FeatureConfig)
AutoModelForSequenceClassification.register(FeatureConfig, FeatureClassifier)
