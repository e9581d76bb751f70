"""The torch half that tasks share: a model class of transformers, loaded, fed, scored and saved.

A task's `model.py` subclasses `TransformerNetwork` and says what differs: which class, what the config
needs to know, what the target tensor is. What is saved is what `save_pretrained` saves, so a finished
folder works with plain transformers too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn
from transformers import AutoConfig

# Imported for what it registers: networks of our own, which are loaded like any other.
import app.adapt.architectures  # noqa: F401  # pyright: ignore[reportUnusedImport]
from app.adapt.outputs import Batch, Encoded, Outputs
from app.errors import InvalidSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from app.adapt.task import Task


class TransformerNetwork:
    """See `app.adapt.task.Network`, whose methods these are."""

    model_class: ClassVar[Any]  # AutoModelFor...

    # What a task says.
    def configure(self, task: Any, config: Any) -> None:
        """Set what the task decides in the config (number of labels, ...); default: nothing."""

    def target(self, task: Any, encoded: Sequence[Encoded], shape: tuple[int, int]) -> Any:
        """Return the target tensor of a batch of padded `shape` (B, T); default: none."""
        del task, encoded, shape

    # What follows.
    def load(self, task: Any, folder: Path, *, fresh: bool = False) -> nn.Module:
        """Build the network; parts that the folder has no weights for (a head) are drawn anew.

        Their names are noted on it, for `new_parameters`.

        Raises:
            InvalidSpec: this kind of model cannot do the task.
        """
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        self.configure(task, config)
        known = self.model_class._model_mapping  # noqa: SLF001 - nothing public says what it takes
        if type(config) not in known:
            message = (
                f"a {config.model_type} model cannot do {task.name()}; "
                f"transformers has no {self.model_class.__name__} of it"
            )
            raise InvalidSpec(message, param="model", code="model_does_not_fit")
        if fresh:
            network = self.model_class.from_config(config)
            return noted(network, [name for name, _ in network.named_parameters()])
        network, info = self.model_class.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        mismatched = [entry[0] for entry in info["mismatched_keys"]]
        return noted(network, [*info["missing_keys"], *mismatched])

    def load_probe(self, task: Any, folders: Sequence[Path], method: Any) -> nn.Module:
        """Build a linear head on frozen features; for tasks whose answers it can read off.

        Raises:
            InvalidSpec: this task is not one of them.
        """
        del folders
        message = f"method {method.name()} does not fit {task.name()}: it labels texts and tokens"
        raise InvalidSpec(message, param="method", code="method_does_not_fit")

    def annotate(
        self, task: Any, network: nn.Module, encoded: list[Encoded], pad_id: int
    ) -> list[Encoded]:
        """Note in training data what only the untouched network can say; default: nothing."""
        del task, network, pad_id
        return encoded

    def collate(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Pad on the right to the longest member."""
        ids_BT, mask_BT = pad([item.input_ids for item in encoded], pad_id)
        types_BT = None
        if encoded[0].token_type_ids is not None:
            types_BT, _ = pad([item.token_type_ids or [] for item in encoded], 0)
        has_targets = encoded[0].target is not None
        shape = (ids_BT.shape[0], ids_BT.shape[1])
        target = self.target(task, encoded, shape) if has_targets else None
        return Batch(
            input_ids_BT=ids_BT, mask_BT=mask_BT, token_type_ids_BT=types_BT, target=target
        )

    def pack(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Lay several sequences side by side in a row; only tasks that pack have this."""
        message = f"{task.name()} does not pack"
        raise NotImplementedError(message)

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network; its logits are the outputs."""
        return Outputs(logits=network(**inputs_of(batch)).logits, mask_BT=batch.mask_BT)

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return what metrics and `decode` read, an array for each row; default: its logits."""
        del task, batch
        return list(outputs.logits.float().cpu().numpy())

    def generate(
        self, task: Any, network: nn.Module, encoded: Sequence[Encoded],
        tokenizer: PreTrainedTokenizerBase, parameters: Any, emit: Callable[[str], None] | None = None,
    ) -> list[Any]:  # fmt: skip
        """Write an answer to each row; only tasks that generate have this."""
        message = f"{cast('Task', task).name()} does not generate"
        raise NotImplementedError(message)

    def save(self, network: nn.Module, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        cast("Any", network).save_pretrained(folder, safe_serialization=True)


def new_parameters(network: nn.Module) -> frozenset[str]:
    """Return the names of the weights that were drawn when a task's network was loaded: its new head."""
    return cast("Any", network).attune_new_parameters


def noted(network: Any, names: Sequence[str]) -> nn.Module:
    """Return the network with the names of its new weights on it."""
    network.attune_new_parameters = frozenset(names)
    return cast("nn.Module", network)


def pad(
    sequences: Sequence[Sequence[int]], value: int, *, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sequences as one (B, T) tensor padded with `value`, and its mask."""
    longest = max(map(len, sequences))
    ids_BT = torch.full((len(sequences), longest), value, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, sequence in enumerate(sequences):
        where = slice(longest - len(sequence), None) if left else slice(0, len(sequence))
        ids_BT[row, where] = torch.tensor(sequence, dtype=torch.long)
        mask_BT[row, where] = 1
    return ids_BT, mask_BT


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Return what an encoder or decoder of transformers takes."""
    inputs: dict[str, Any] = {"input_ids": batch.input_ids_BT, "attention_mask": batch.mask_BT}
    if batch.token_type_ids_BT is not None:
        inputs["token_type_ids"] = batch.token_type_ids_BT
    return inputs
