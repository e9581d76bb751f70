"""T5."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from app.adapt.backbone import Backbone
from app.adapt.task import Architecture


class T5(Backbone):
    """An encoder-decoder with relative positions, gated as in T5 1.1.

    Source: Raffel et al. 2020 (arXiv 1910.10683); Shazeer 2020 (arXiv 2002.05202) for the gates.
    """

    architecture: ClassVar[Architecture] = "encoder_decoder"
    segmenter: ClassVar[str] = "unigram"
    model_class: ClassVar[str] = "T5ForConditionalGeneration"
    kind: Literal["t5"] = "t5"
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def config(self, vocabulary_size: int, ids: dict[str, Any]) -> Any:
        """See `Backbone.config`."""
        from transformers import T5Config

        made: Any = T5Config  # its signature lacks what every encoder-decoder takes
        return made(
            vocab_size=vocabulary_size,
            d_model=self.hidden_size,
            d_kv=self.hidden_size // self.num_heads,
            d_ff=self.wide,
            num_layers=self.num_layers,
            num_decoder_layers=self.num_layers,
            num_heads=self.num_heads,
            dropout_rate=self.dropout,
            feed_forward_proj="gated-gelu",
            pad_token_id=ids["pad_token_id"],
            eos_token_id=ids["eos_token_id"],
            decoder_start_token_id=ids["pad_token_id"],
        )
