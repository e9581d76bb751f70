"""Networks of several tasks around one encoder, and the folder that they are kept in.

A folder is the encoder as transformers saves it (`config.json`, `model.safetensors`, the tokenizer), and
for each task `heads/<name>/`: the config of its network and `head.safetensors`, the weights that are not
the encoder's. `load_part` puts one back together; saved as a whole, that is a plain model folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from app.adapt.network import new_parameters, noted
from app.errors import InvalidSpec
from app.store.manifest import CorruptFolder

HEADS = "heads"
HEAD = "head.safetensors"


class SharedTrunk(nn.Module):
    """The networks of tasks, in a fixed order, whose encoders are one and the same module.

    `known` is an encoder that heads which are not among these read with: it has all that they ask for.
    """

    def __init__(self, networks: Mapping[str, Any], known: Any = None) -> None:
        super().__init__()
        given = [*networks.values(), *([] if known is None else [known])]
        drawn = {
            id(parameter)
            for network in given
            for name, parameter in network.named_parameters()
            if name in new_parameters(network)
        }
        trunk = _trunk_of(list(networks.values()), known)
        self.names = list(networks)
        self.parts = nn.ModuleList(graft(network, trunk) for network in networks.values())
        self.config = trunk.config
        noted(self, [name for name, p in self.named_parameters() if id(p) in drawn])

    @property
    def trunk(self) -> Any:
        """The encoder."""
        return cast("Any", self.parts[0]).base_model

    def part(self, name: str) -> Any:
        """Return a task's network."""
        return self.parts[self.names.index(name)]

    def trunk_names(self) -> set[str]:
        """Return the names of the encoder's parameters, without those that the source has no values for."""
        ids = {id(parameter) for parameter in self.trunk.parameters()}
        mine = {name for name, parameter in self.named_parameters() if id(parameter) in ids}
        return mine - new_parameters(self)

    def save(self, folder: Path) -> None:
        """Write the encoder and the heads."""
        self.trunk.save_pretrained(folder, safe_serialization=True)
        known = {tensor.data_ptr() for tensor in self.trunk.state_dict().values()}
        for name in self.names:
            part = self.part(name)
            place = folder / HEADS / name
            place.mkdir(parents=True)
            part.config.save_pretrained(place)
            own = {
                key: tensor.detach().clone().contiguous()
                for key, tensor in part.state_dict().items()
                if tensor.data_ptr() not in known
            }
            save_file(own, place / HEAD, metadata={"format": "pt"})


def _trunk_of(networks: Sequence[Any], known: Any) -> Any:
    """Return the encoder that all can share: one without a head, whose config says what is taken of it.

    Else the largest, `known` before others, which has all that any of them asks for (BERT's pooler, which
    taggers do without).

    Raises:
        InvalidSpec: several have no head: what is taken of their states is noted in one config.
    """
    bare = [network for network in networks if network.base_model is network]
    is_bare = known is not None and hasattr(known.config, "attune_embedding")
    if len(bare) + is_bare > 1:
        message = (
            "tasks: only one without a head of its own (sentence-similarity) can share an encoder"
        )
        raise InvalidSpec(message, param="tasks")
    bodies = bare or [*([] if known is None else [known]), *(n.base_model for n in networks)]
    return max(bodies, key=lambda body: sum(p.numel() for p in body.parameters()))


def graft(network: Any, trunk: PreTrainedModel) -> Any:
    """Return the network with this encoder in the place of its own.

    Raises:
        InvalidSpec: its encoder is of another kind.
    """
    body = network.base_model
    if body is trunk:
        return network
    if type(body) is not type(trunk):
        message = (
            f"model: a {type(body).__name__} and a {type(trunk).__name__} cannot be one encoder; "
            "take tasks that read with the same kind"
        )
        raise InvalidSpec(message, param="model", code="model_does_not_fit")
    if body is network:
        return trunk
    setattr(network, network.base_model_prefix, trunk)
    network.tie_weights()
    return network


def head_names(folder: Path) -> list[str]:
    """Return the tasks that a folder has heads for; of a model of one task, none."""
    return sorted(path.parent.name for path in folder.glob(f"{HEADS}/*/config.json"))


def load_trunk(folder: Path) -> PreTrainedModel:
    """Load the encoder of a folder; what it has no weights for is noted as new."""
    made: Any = AutoModel
    trunk, info = made.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True,
        output_loading_info=True,
    )  # fmt: skip
    return cast("PreTrainedModel", noted(trunk, list(info["missing_keys"])))


def load_part(folder: Path, name: str, model_class: Any, trunk: PreTrainedModel) -> nn.Module:
    """Return the network of one task around the encoder that is given, with its head's weights.

    Raises:
        CorruptFolder: weights are missing.
    """
    place = folder / HEADS / name
    config = AutoConfig.from_pretrained(place, local_files_only=True)
    with torch.device("meta"):
        network = model_class.from_config(config)
    whole = graft(network, trunk)
    if whole is trunk:
        return noted(trunk, [])
    tensors: dict[str, Tensor] = load_file(place / HEAD)
    whole.load_state_dict(tensors, strict=False, assign=True)
    whole.tie_weights()
    lost = [key for key, tensor in whole.state_dict().items() if tensor.is_meta]
    if lost:
        message = f"{place / HEAD} has no {lost[0]!r}"
        raise CorruptFolder(message)
    return noted(whole, [])
