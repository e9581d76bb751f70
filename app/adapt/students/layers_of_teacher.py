"""A student cut from its teacher: some of its layers as they are, embeddings and head with them.

Sources: Sun et al. 2019 (arXiv 1908.09355) keep the first layers, Sanh et al. 2019 (arXiv 1910.01108,
DistilBERT) every other one.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, Field, model_validator

from app.adapt.student import Material, Student
from app.errors import InvalidSpec
from app.store.weights import weight_files

if TYPE_CHECKING:
    from app.adapt.layers.cutting import Stack

# What a tokenizer and a text generator load besides the config.
COPIED = ("*token*", "*vocab*", "merges.txt", "*.model", "*.spm", "chat_template*",
          "generation_config.json")  # fmt: skip
ENCODER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
DECODER_KEYS = ("num_decoder_layers", "decoder_layers")
KEYS_BY_LAYER = ("layer_types", "mlp_layer_types")  # lists with an entry for each layer


def _in_order(blocks: list[int]) -> list[int]:
    if blocks != sorted(set(blocks)) or blocks[0] < 0:
        message = "block numbers count from 0 and rise, each once"
        raise ValueError(message)
    return blocks


Blocks = Annotated[list[int], Field(min_length=1, max_length=512), AfterValidator(_in_order)]
Rule = Blocks | Literal["first", "even", "last"]


class LayersOfTeacher(Student):
    """Layers cut from the teacher; of an encoder-decoder both halves are cut."""

    kind: Literal["layers_of_teacher"] = "layers_of_teacher"
    needs_teacher: ClassVar[bool] = True

    keep: Rule = Field(
        default="even",
        description="Numbers of the teacher's layers from 0, or which ones: the first, the last, or evenly "
        "spread from the first to the last.",
    )
    num_layers: int | None = Field(
        default=None, ge=1, description="How many, where `keep` is a word; null: half of them."
    )
    keep_decoder: Rule | None = Field(
        default=None, description="The same for an encoder-decoder's decoder; null: as `keep`."
    )
    num_decoder_layers: int | None = Field(
        default=None, ge=1, description="null: as `num_layers`, or half of them."
    )

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        decoder = self.keep if self.keep_decoder is None else self.keep_decoder
        for keep, number, param in (
            (self.keep, self.num_layers, "num_layers"),
            (decoder, self.num_decoder_layers, "num_decoder_layers"),
        ):
            if isinstance(keep, list) and number is not None:
                message = f"{param} goes with 'first', 'even' or 'last'; the list says how many"
                raise ValueError(message)
        return self

    def make(self, folder: Path, material: Material) -> None:
        """See `Student.make`."""
        from app.adapt.layers.cutting import find_stacks, write_cut

        teacher = cast("Path", material.teacher)  # there is one: needs_teacher
        config: dict[str, Any] = json.loads((teacher / "config.json").read_bytes())
        files = weight_files(teacher, "the teacher")
        stacks = find_stacks(files)
        self._check_stacks(config, stacks)
        kept = {index: self._kept(stack) for index, stack in enumerate(stacks)}
        write_cut(files, folder / "model.safetensors", kept, stacks)
        smaller = _smaller(config, stacks, list(kept.values()), teacher)
        (folder / "config.json").write_text(json.dumps(smaller, indent=2, sort_keys=True) + "\n")
        for path in sorted(teacher.iterdir()):
            if path.is_file() and any(fnmatchcase(path.name, pattern) for pattern in COPIED):
                shutil.copyfile(path, folder / path.name)
        _check_loads(folder)

    def _check_stacks(self, config: dict[str, Any], stacks: Sequence[Stack]) -> None:
        has_decoder = bool(config.get("is_encoder_decoder"))
        if len(stacks) != 1 + has_decoder:
            message = f"models of type {config.get('model_type')!r} have no layers to choose from"
            raise InvalidSpec(message, code="model_does_not_fit")
        if not has_decoder:
            for param in ("keep_decoder", "num_decoder_layers"):
                if getattr(self, param) is not None:
                    message = f"{param}: the teacher has no decoder beside an encoder"
                    raise InvalidSpec(message, param=param)

    def _kept(self, stack: Stack) -> list[int]:
        count = len(stack.blocks)
        if not stack.is_decoder:
            return blocks_of(self.keep, self.num_layers, count)
        keep = self.keep if self.keep_decoder is None else self.keep_decoder
        number = self.num_layers if self.num_decoder_layers is None else self.num_decoder_layers
        return blocks_of(keep, number, count, of_decoder=True)


def blocks_of(
    keep: list[int] | str, number: int | None, count: int, *, of_decoder: bool = False
) -> list[int]:
    """Return which of `count` blocks are kept.

    "even" is round(i (count - 1) / (number - 1)) for i from 0: of 12 blocks 6 are 0, 2, 4, 7, 9, 11, as in
    DistilBERT. One block alone is the first.

    Raises:
        InvalidSpec: there are not so many.
    """
    if isinstance(keep, list):
        if keep[-1] >= count:
            param = "keep_decoder" if of_decoder else "keep"
            message = f"{param}: there is no layer {keep[-1]}; the teacher has 0 to {count - 1}"
            raise InvalidSpec(message, param=param, code="layer_not_found")
        return keep
    wanted = math.ceil(count / 2) if number is None else number
    if wanted > count:
        param = "num_decoder_layers" if of_decoder else "num_layers"
        message = f"{param}: the teacher has {count} layers, and {wanted} are more"
        raise InvalidSpec(message, param=param, code="layer_not_found")
    if keep == "first":
        return list(range(wanted))
    if keep == "last":
        return list(range(count - wanted, count))
    return [round(place * (count - 1) / max(1, wanted - 1)) for place in range(wanted)]


def _smaller(
    config: dict[str, Any], stacks: Sequence[Stack], kept: Sequence[list[int]], teacher: Path
) -> dict[str, Any]:
    """Return the config with the numbers of layers that are left, and with the lists that go by layer."""
    from transformers import AutoConfig

    known: Any = AutoConfig.from_pretrained(teacher, local_files_only=True)
    smaller = dict(config)
    for stack, blocks in zip(stacks, kept, strict=True):
        if stack.is_decoder and len(stacks) > 1:
            keys = [key for key in DECODER_KEYS if hasattr(known, key)]
        else:
            own = known.attribute_map.get("num_hidden_layers", "num_hidden_layers")
            keys = [own, *(key for key in ENCODER_KEYS if key in config)]
            for key in KEYS_BY_LAYER:
                if isinstance(config.get(key), list):
                    smaller[key] = [config[key][block] for block in blocks]
        smaller |= dict.fromkeys(keys, len(blocks))
    return smaller


def _check_loads(folder: Path) -> None:
    """Check that the layers are the ones that the new config asks for.

    In some architectures a layer depends on its number (every third one attends to everything, the first
    has no normalization), so that not every choice of layers is a model.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModel

    from app.adapt.layers.depth import BLOCK

    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    try:
        with torch.random.fork_rng(devices=[]):  # what has no weights is drawn
            _, info = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (ValueError, StrictDataclassError) as error:
        raise _unfit(config) from error
    odd = {*info["missing_keys"], *info["unexpected_keys"]}
    odd |= {entry[0] for entry in info["mismatched_keys"]}
    if any(BLOCK.search(name) for name in odd):
        raise _unfit(config)


def _unfit(config: dict[str, Any]) -> InvalidSpec:
    message = (
        f"keep: models of type {config.get('model_type')!r} do not work with these layers alone"
    )
    return InvalidSpec(message, param="keep", code="model_does_not_fit")
