"""The torch half: pooled states of an encoder, saved so that sentence-transformers loads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel

from app.adapt.architectures.features import pool
from app.adapt.architectures.static import StaticModel
from app.adapt.network import TransformerNetwork, inputs_of, new_parameters, noted, pad
from app.adapt.outputs import Batch, Encoded, Outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.adapt.tasks.sentence_similarity.config import SentenceSimilarity


# In the order in which sentence-transformers puts them side by side.
MODES = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "last": "lasttoken"}


class EmbeddingNetwork(TransformerNetwork):
    """Vectors (B, S, D) of the S texts of each row."""

    model_class = AutoModel

    def configure(self, task: SentenceSimilarity, config: Any) -> None:
        """Note in the config what is taken of the states; what runs the network reads it there."""
        config.attune_embedding = {
            "layers": task.layers,
            "poolings": task.poolings,
            "normalize": task.normalize,
        }

    def load(self, task: Any, folder: Path, *, fresh: bool = False) -> nn.Module:
        """Build the network without the pooler of its pretraining, which vectors are not taken of."""
        network: Any = super().load(task, folder, fresh=fresh)
        names = new_parameters(network)
        if getattr(network, "pooler", None) is not None:
            network.pooler = None
        return noted(network, [name for name in names if not name.startswith("pooler.")])

    def collate(self, task: Any, encoded: Sequence[Encoded], pad_id: int) -> Batch:
        """Put the texts of all rows under each other; `places` (B, S) says where, -1 for none."""
        groups = [[item.input_ids, *item.others] for item in encoded]
        ids_NT, mask_NT = pad([ids for group in groups for ids in group], pad_id)
        most = max(map(len, groups))
        places_BS = torch.full((len(groups), most), -1, dtype=torch.long)
        start = 0
        for row, group in enumerate(groups):
            places_BS[row, : len(group)] = torch.arange(start, start + len(group))
            start += len(group)
        target = self.target(task, encoded, (len(groups), most))
        return Batch(ids_NT, mask_NT, target=target, others={"places": places_BS})

    def target(
        self, task: Any, encoded: Sequence[Encoded], shape: tuple[int, int]
    ) -> torch.Tensor | None:
        """Return scores (B,), or numbers (B,) that are the same where texts belong together."""
        del shape
        targets = [item.target for item in encoded]
        if targets[0] is None:
            return None
        if task.form == "scored":
            return torch.tensor(targets, dtype=torch.float32)
        numbers = {text: number for number, text in enumerate(dict.fromkeys(targets))}
        return torch.tensor([numbers[text] for text in targets], dtype=torch.long)

    def forward(self, network: nn.Module, batch: Batch) -> Outputs:
        """Run the network."""
        made: Any = network
        options: dict[str, Any] = made.config.attune_embedding
        states = made(**inputs_of(batch), output_hidden_states=True).hidden_states
        parts = [
            pool(states[layer], batch.mask_BT, pooling)
            for layer in options["layers"]
            for pooling in MODES
            if pooling in options["poolings"]
        ]
        vectors_ND = torch.cat(parts, dim=-1).float()
        if options["normalize"]:
            vectors_ND = functional.normalize(vectors_ND, dim=-1)
        places_BS = batch.others["places"]
        vectors_BSD = vectors_ND[places_BS.clamp(min=0)] * (places_BS >= 0).unsqueeze(-1)
        return Outputs(logits=vectors_BSD, mask_BT=batch.mask_BT, answer="vector")

    def scores(self, task: Any, outputs: Outputs, batch: Batch) -> Sequence[NDArray[np.float32]]:
        """Return the vectors (S, D) of each row."""
        del task
        counts = (batch.others["places"] >= 0).sum(1).tolist()
        vectors = outputs.logits.float().cpu().numpy()
        return [rows[:count] for rows, count in zip(vectors, counts, strict=True)]

    def save(self, network: nn.Module, folder: Path) -> None:
        """Write the model, and beside it the files of sentence-transformers where it can do the same."""
        super().save(network, folder)
        config = cast("Any", network).config
        options: dict[str, Any] = config.attune_embedding
        modules = _modules(network, options)
        if not modules:
            return
        listed = [
            {
                "idx": at,
                "name": str(at),
                "path": f"{at}_{name}" if at else "",
                "type": f"sentence_transformers.models.{name}",
            }
            for at, name in enumerate(modules)
        ]
        pooling = {
            f"pooling_mode_{mode}": name in options["poolings"] for name, mode in MODES.items()
        }
        (folder / "modules.json").write_text(json.dumps(listed, indent=2))
        if "Pooling" in modules:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling" / "config.json").write_text(
                json.dumps({"word_embedding_dimension": config.hidden_size, **pooling}, indent=2)
            )
        if "Normalize" in modules:
            normalize = folder / f"{len(modules) - 1}_Normalize"
            normalize.mkdir()
            (normalize / "config.json").write_text("{}")


def _modules(network: nn.Module, options: dict[str, Any]) -> list[str]:
    """Return what a network is made of in sentence-transformers, nothing where that cannot do the same."""
    last = ["Normalize"] if options["normalize"] else []
    if isinstance(network, StaticModel):
        # Its means leave the silent tokens out: the same direction, another length.
        is_same = options["poolings"] == ["mean"] and len(options["layers"]) == 1 and last
        return ["StaticEmbedding", *last] if is_same else []
    is_known = type(network).__module__.startswith("transformers.")
    return ["Transformer", "Pooling", *last] if is_known and options["layers"] == [-1] else []
