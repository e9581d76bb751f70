"""BERT."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from app.adapt.backbone import Backbone
from app.adapt.task import Architecture


class Bert(Backbone):
    """An encoder with learned positions. Source: Devlin et al. 2019 (arXiv 1810.04805)."""

    architecture: ClassVar[Architecture] = "encoder"
    segmenter: ClassVar[str] = "wordpiece"
    model_class: ClassVar[str] = "BertForMaskedLM"
    kind: Literal["bert"] = "bert"
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def config(self, vocabulary_size: int, ids: dict[str, Any]) -> Any:
        """See `Backbone.config`."""
        from transformers import BertConfig

        return BertConfig(
            vocab_size=vocabulary_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            intermediate_size=self.wide,
            max_position_embeddings=self.max_length,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            pad_token_id=ids["pad_token_id"],
        )
