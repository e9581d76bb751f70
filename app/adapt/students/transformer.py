"""A fresh transformer: the architecture and the tokenizer of another model, in a size of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from pydantic import Field, model_validator

from app.adapt.embeddings import reduce
from app.adapt.student import Material, Student
from app.errors import InvalidSpec

# How transformers' configs call a size; an encoder-decoder has it twice.
NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "dim", "d_model"),
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers",
                   "encoder_layers", "decoder_layers"),
    "num_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads",
                  "encoder_attention_heads", "decoder_attention_heads"),
    "intermediate_size": ("intermediate_size", "n_inner", "d_inner", "hidden_dim", "d_ff", "ffn_dim",
                          "encoder_ffn_dim", "decoder_ffn_dim"),
    "head_size": ("head_dim", "d_kv", "d_head"),
}  # fmt: skip
BY_LAYER = ("layer_types", "mlp_layer_types")  # lists that go with the old number of layers


class Transformer(Student):
    """A transformer of random weights. Default sizes: BERT-mini, Turc et al. 2019 (arXiv 1908.08962)."""

    is_fresh: ClassVar[bool] = True
    kind: Literal["transformer"] = "transformer"

    tokenizer: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="The model whose architecture and tokenizer it has; null: the teacher.",
    )
    hidden_size: int = Field(default=256, ge=2, le=16_384)
    num_layers: int = Field(
        default=4, ge=1, le=512, description="Of an encoder-decoder: in each half."
    )
    num_heads: int = Field(default=4, ge=1, le=512)
    intermediate_size: int | None = Field(
        default=None, ge=1, le=65_536, description="null: four times hidden_size."
    )
    embeddings: Literal["random", "teacher"] = Field(
        default="random",
        description="teacher: those of the model that gives the tokenizer, brought to hidden_size by their "
        "principal components where that is smaller.",
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
    def needs_teacher(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - the field decides
        """Say whether nothing else says what it is like."""
        return self.tokenizer is None

    def model_ids(self) -> dict[str, str]:
        """Return the model that gives architecture and tokenizer, where one is named."""
        return {} if self.tokenizer is None else {"tokenizer": self.tokenizer}

    def make(self, folder: Path, material: Material) -> None:
        """See `Student.make`."""
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        # There is a teacher where no model is named: needs_teacher.
        named = material.models[self.tokenizer] if self.tokenizer is not None else None
        base = named or cast("Path", material.teacher)
        config: Any = AutoConfig.from_pretrained(base, local_files_only=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(material.seed)
            network = AutoModel.from_config(self._resized(config), dtype=torch.float32)
            if self.embeddings == "teacher":
                source = AutoModel.from_pretrained(base, local_files_only=True, dtype=torch.float32)
                fresh_VD = network.get_input_embeddings().weight
                table_VD = self._narrowed(source.get_input_embeddings().weight, fresh_VD)
                with torch.no_grad():
                    fresh_VD.copy_(table_VD)
        network.save_pretrained(folder, safe_serialization=True)
        tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True)
        tokenizer.save_pretrained(folder)

    def _resized(self, config: Any) -> Any:
        """Return the config in this size.

        Raises:
            InvalidSpec: its architecture has no such sizes, or has them layer by layer.
        """
        from huggingface_hub.errors import StrictDataclassError

        wanted = {
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "intermediate_size": self.intermediate_size or 4 * self.hidden_size,
            "head_size": self.hidden_size // self.num_heads,
        }
        sizes = {key: value for key, value in config.to_dict().items() if key not in BY_LAYER}
        for field, size in wanted.items():
            known = [name for name in NAMES[field] if name in sizes]
            if not known and field != "head_size":
                message = f"{field}: models of type {config.model_type!r} have no such size"
                raise InvalidSpec(message, param=field, code="model_does_not_fit")
            sizes |= dict.fromkeys(known, size)
        try:
            return type(config).from_dict(sizes)
        except StrictDataclassError as error:
            message = f"models of type {config.model_type!r} cannot be had in every size: {error}"
            raise InvalidSpec(message, code="model_does_not_fit") from error

    def _narrowed(self, matrix_VH: Any, fresh_VD: Any) -> Any:
        """Return the embeddings in the width of the fresh ones."""
        import torch

        width, wanted = matrix_VH.shape[1], fresh_VD.shape[1]
        if wanted == width:
            return matrix_VH
        if wanted > width:
            message = f"embeddings: those of the model are {width} wide, and {wanted} is more"
            raise InvalidSpec(message, param="embeddings", code="too_wide")
        return torch.from_numpy(reduce(matrix_VH.detach().numpy(), wanted))
