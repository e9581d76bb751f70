"""The backbone contract: an architecture in a size of one's own, whose random weights are pretrained.

A backbone knows how transformers' config of its family names the sizes. The folder that `make_folder`
writes is a model folder like any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pydantic import Field, model_validator

from app.adapt.piece_table import SENTINEL
from app.adapt.task import Architecture
from app.adapt.vocabulary import SPECIAL, with_ends
from app.kit.registry import Plugin

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NUM_SENTINELS = 100  # T5's
# The special pieces by architecture, in the order of their ids: padding is 0.
NAMES: dict[Architecture, dict[str, str]] = {
    "encoder": SPECIAL,
    "decoder": {
        "pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"
    },
    "encoder_decoder": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
}  # fmt: skip


class Backbone(Plugin, ABC):
    """A family of networks. Default sizes: BERT-mini, Turc et al. 2019 (arXiv 1908.08962)."""

    architecture: ClassVar[Architecture]
    segmenter: ClassVar[str]  # the kind that the family's published models have
    model_class: ClassVar[str]  # of transformers, with the head that is pretrained

    hidden_size: int = Field(default=256, ge=8, le=16_384)
    num_layers: int = Field(
        default=4, ge=1, le=512, description="Of an encoder-decoder: in each half."
    )
    num_heads: int = Field(default=4, ge=1, le=512)
    intermediate_size: int | None = Field(
        default=None, ge=1, le=65_536, description="null: four times hidden_size."
    )
    max_length: int = Field(
        default=512, ge=16, le=131_072, description="Tokens that the network reads at once."
    )

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.num_heads:
            message = (
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
            raise ValueError(message)
        return self

    @property
    def wide(self) -> int:
        """The width between the two matrices of a block."""
        return self.intermediate_size or 4 * self.hidden_size

    def num_parameters(self, vocabulary_size: int) -> tuple[int, int]:
        """Return about how many weights it has, and how many of them embed."""
        attention, between = 4 * self.hidden_size**2, 2 * self.hidden_size * self.wide
        blocks = self.num_layers * (attention + between)
        if self.architecture == "encoder_decoder":
            blocks = 2 * blocks + self.num_layers * attention
        embeddings = vocabulary_size * self.hidden_size
        return blocks + embeddings, embeddings

    @abstractmethod
    def config(self, vocabulary_size: int, ids: dict[str, Any]) -> Any:
        """Return transformers' config; `ids` are the special tokens' ids by their names there."""


def special_pieces(architecture: Architecture) -> list[str]:
    """Return what a learned vocabulary begins with; the unknown piece is among them."""
    sentinels = NUM_SENTINELS if architecture == "encoder_decoder" else 0
    return [*NAMES[architecture].values(), *(SENTINEL.format(n) for n in range(sentinels))]


def finish_tokenizer(learned: Tokenizer, architecture: Architecture, max_length: int) -> Any:
    """Return a tokenizer of transformers that puts special tokens where models of this kind want them."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    made: Any = learned
    names, further = NAMES[architecture], special_pieces(architecture)
    if architecture == "encoder":
        made = with_ends(made)
    else:
        first, last = (
            (names["bos_token"] + " ", "")
            if architecture == "decoder"
            else ("", " " + names["eos_token"])
        )
        marks = [names["bos_token"]] if first else [names["eos_token"]]
        made.post_processor = processors.TemplateProcessing(
            single=f"{first}$A{last}",
            pair=f"{first}$A{last} {first}$B{last}".strip(),
            special_tokens=[(mark, made.token_to_id(mark)) for mark in marks],
        )
    extra = {"extra_special_tokens": further[len(names) :]} if len(further) > len(names) else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=max_length, **cast("Any", names), **extra
    )


def make_folder(backbone: Backbone, tokenizer: Any, folder: Path, seed: int) -> None:
    """Write config, random weights and tokenizer into a folder; the same ones for the same seed."""
    import torch
    import transformers

    ids = {
        name: getattr(tokenizer, name)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        if getattr(tokenizer, name, None) is not None
    }
    config = backbone.config(max(tokenizer.get_vocab().values()) + 1, ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = getattr(transformers, backbone.model_class)(config)
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
