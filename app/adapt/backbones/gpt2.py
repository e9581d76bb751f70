"""GPT-2."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from app.adapt.backbone import Backbone
from app.adapt.task import Architecture


class Gpt2(Backbone):
    """A decoder with learned positions. Source: Radford et al. 2019."""

    architecture: ClassVar[Architecture] = "decoder"
    segmenter: ClassVar[str] = "bpe"
    model_class: ClassVar[str] = "GPT2LMHeadModel"
    kind: Literal["gpt2"] = "gpt2"
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def config(self, vocabulary_size: int, ids: dict[str, Any]) -> Any:
        """See `Backbone.config`."""
        from transformers import GPT2Config

        return GPT2Config(
            vocab_size=vocabulary_size,
            n_embd=self.hidden_size,
            n_layer=self.num_layers,
            n_head=self.num_heads,
            n_inner=self.wide,
            n_positions=self.max_length,
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            pad_token_id=ids.get("pad_token_id"),
            bos_token_id=ids.get("bos_token_id"),
            eos_token_id=ids.get("eos_token_id"),
        )
