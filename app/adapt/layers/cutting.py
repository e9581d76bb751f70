"""Layers cut from a model's files: of its numbered blocks some are kept, under new numbers.

The model itself is not built; names and tensors of its safetensors files are all that is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from app.adapt.layers.depth import BLOCK


@dataclass(frozen=True)
class Stack:
    """Blocks on top of each other: what leads to their numbers, and the names in each after it."""

    prefix: str
    blocks: list[set[str]]

    @property
    def is_decoder(self) -> bool:
        """Say whether it writes what an encoder beside it has read."""
        return "decoder." in self.prefix

    def kept_names(self, kept: Sequence[int]) -> dict[str, str]:
        """Return old name to new of what is left of the stack.

        What only the first block has (T5's distances between positions, which all blocks read) goes into
        the new first one.
        """
        places = [(old, new) for new, old in enumerate(kept)]
        names = {
            self._name(old, name): self._name(new, name)
            for old, new in places
            for name in self.blocks[old]
        }
        if kept[0] != 0:
            others = set[str]().union(*self.blocks[1:])
            names |= {self._name(0, name): self._name(0, name) for name in self.blocks[0] - others}
        return names

    def __contains__(self, name: str) -> bool:
        """Say whether a tensor is in one of the blocks."""
        found = BLOCK.search(name)
        return found is not None and name[: found.start(1)] == self.prefix

    def _name(self, number: int, name: str) -> str:
        return f"{self.prefix}{number}.{name}"


def find_stacks(files: Sequence[Path]) -> list[Stack]:
    """Return the stacks of a model, the encoder's before the decoder's."""
    blocks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping, though it has keys
                found = BLOCK.search(name)
                if found is not None:
                    rest = name[found.end() :]
                    blocks[name[: found.start(1)]][int(found[1])].add(rest)
    stacks = [
        Stack(prefix, [found[number] for number in range(max(found) + 1)])
        for prefix, found in blocks.items()
    ]
    return sorted(stacks, key=lambda stack: (stack.is_decoder, stack.prefix))


def write_cut(
    files: Sequence[Path], target: Path, kept: Mapping[int, Sequence[int]], stacks: Sequence[Stack]
) -> None:
    """Write the weights that are left: of each stack the `kept` blocks, by its index, and all the rest."""
    names: dict[str, str] = {}
    for index, stack in enumerate(stacks):
        names |= stack.kept_names(kept[index])
    tensors = {
        names.get(name, name): tensor
        for name, tensor in _tensors(files)
        if name in names or not any(name in stack for stack in stacks)
    }
    save_file(tensors, target, metadata={"format": "pt"})


def _tensors(files: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - see above
                yield name, file.get_tensor(name)
