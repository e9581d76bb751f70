"""A table of word vectors: a text is the mean of its tokens' vectors. An architecture of our own.

Its only hidden states are the table's rows, so what pools the states of an encoder pools these. The
weights are those of sentence-transformers' `StaticEmbedding`, which loads a folder of it.

Shapes: B batch, T tokens, D the vectors' width, C classes.
"""

from __future__ import annotations

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
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from app.adapt.architectures.features import pool


class StaticConfig(PreTrainedConfig):
    """The table's size; `silent_ids` are the tokens that say nothing (marks of beginning, padding, ...).

    `head_size` is the width of the classifier's inner layer.
    """

    model_type = "attune-static"

    vocab_size: int = 1
    hidden_size: int = 256
    head_size: int = 512
    silent_ids: list[int] | None = None
    pad_token_id: int | None = None


class StaticPreTrained(PreTrainedModel):
    """What a table and a table with a head have in common."""

    config_class = StaticConfig
    base_model_prefix = "static"


class StaticModel(StaticPreTrained):
    """States (B, T, D) that do not depend on each other: each token's own vector."""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        """Look the tokens up; silent ones are zero, and stay so while the table trains."""
        config = cast("StaticConfig", self.config)
        silent = torch.tensor(config.silent_ids or [], device=input_ids.device)
        speaks_BT1 = ~torch.isin(input_ids, silent).unsqueeze(-1)
        states_BTD = self.embedding(input_ids) * speaks_BT1
        return BaseModelOutput(last_hidden_state=states_BTD, hidden_states=(states_BTD,))

    def get_input_embeddings(self) -> nn.Module:
        """Return the table."""
        return self.embedding


class StaticForSequenceClassification(StaticPreTrained):
    """Logits (B, C) of the mean vector at length 1, through one inner layer."""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.static = StaticModel(config)
        self.classifier = nn.Sequential(
            nn.Linear(config.hidden_size, config.head_size),
            nn.ReLU(),
            nn.Linear(config.head_size, cast("Any", config).num_labels),
        )
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **_: Any
    ) -> SequenceClassifierOutput:
        """Return logits (B, C)."""
        states_BTD = self.static(input_ids).last_hidden_state
        # At length 1, how many silent tokens a text has makes no difference.
        mean_BD = functional.normalize(pool(states_BTD, attention_mask, "mean"), dim=-1)
        return SequenceClassifierOutput(logits=self.classifier(mean_BD))

    def get_input_embeddings(self) -> nn.Module:
        """Return the table."""
        return self.static.embedding


AutoConfig.register(StaticConfig.model_type, StaticConfig)
AutoModel.register(StaticConfig, StaticModel)
AutoModelForSequenceClassification.register(StaticConfig, StaticForSequenceClassification)
