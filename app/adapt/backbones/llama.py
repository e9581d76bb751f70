"""Llama."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from app.adapt.backbone import Backbone
from app.adapt.task import Architecture


class Llama(Backbone):
    """A decoder with rotary positions and gated layers, without dropout.

    Source: Touvron et al. 2023 (arXiv 2302.13971). The output matrix is the embeddings', as small models
    have it.
    """

    architecture: ClassVar[Architecture] = "decoder"
    segmenter: ClassVar[str] = "bpe"
    model_class: ClassVar[str] = "LlamaForCausalLM"
    kind: Literal["llama"] = "llama"

    def config(self, vocabulary_size: int, ids: dict[str, Any]) -> Any:
        """See `Backbone.config`."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_heads,
            intermediate_size=self.wide,
            max_position_embeddings=self.max_length,
            tie_word_embeddings=True,
            pad_token_id=ids.get("pad_token_id"),
            bos_token_id=ids.get("bos_token_id"),
            eos_token_id=ids.get("eos_token_id"),
        )
