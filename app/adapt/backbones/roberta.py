"""RoBERTa."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from app.adapt.backbone import Backbone
from app.adapt.task import Architecture

BEFORE = 2  # positions that RoBERTa's count leaves out: they begin after the padding's


class Roberta(Backbone):
    """BERT's encoder with a byte-level vocabulary. Source: Liu et al. 2019 (arXiv 1907.11692)."""

    architecture: ClassVar[Architecture] = "encoder"
    segmenter: ClassVar[str] = "bpe"
    model_class: ClassVar[str] = "RobertaForMaskedLM"
    kind: Literal["roberta"] = "roberta"
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def config(self, vocabulary_size: int, ids: dict[str, Any]) -> Any:
        """See `Backbone.config`."""
        from transformers import RobertaConfig

        return RobertaConfig(
            vocab_size=vocabulary_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            intermediate_size=self.wide,
            max_position_embeddings=self.max_length + BEFORE,
            type_vocab_size=1,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            pad_token_id=ids["pad_token_id"],
            bos_token_id=ids.get("cls_token_id", ids.get("bos_token_id")),
            eos_token_id=ids.get("sep_token_id", ids.get("eos_token_id")),
        )
