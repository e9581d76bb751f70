"""Learned maps from a student's widths to its teacher's, for losses that compare states or vectors."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from app.adapt.layers.mapping import layer_pairs
from app.adapt.layers.states import states_of
from app.adapt.loss import Layers
from app.adapt.outputs import Outputs


class StateProjection(nn.Module):
    """Replaces hidden states (N, T, H) by W h, a W of its own for each layer in `widths`: (from, to)."""

    def __init__(self, widths: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self.maps = nn.ModuleDict(
            {str(layer): nn.Linear(*sizes, bias=False) for layer, sizes in widths.items()}
        )

    def forward(self, outputs: Outputs) -> Outputs:
        """Return the outputs with these states in the teacher's width."""
        hidden = list(states_of(outputs))
        for layer, linear in self.maps.items():
            hidden[int(layer)] = linear(hidden[int(layer)].float())
        return replace(outputs, hidden=tuple(hidden))


class VectorProjection(nn.Module):
    """Replaces vectors (B, S, D) by W v."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.map = nn.Linear(source, target, bias=False)

    def forward(self, outputs: Outputs) -> Outputs:
        """Return the outputs with vectors in the teacher's width."""
        return replace(outputs, logits=self.map(outputs.logits.float()))


def project_states(layers: Layers, student: Outputs, teacher: Outputs) -> StateProjection | None:
    """Return what brings the student's mapped states to the teacher's width; None where they have it.

    Raises:
        InvalidSpec: a network has no such layer; with param "layers".
    """
    ours, theirs = states_of(student), states_of(teacher)
    widths: dict[int, tuple[int, int]] = {}
    for low, high in layer_pairs(layers, len(ours) - 1, len(theirs) - 1, first=0):
        sizes = (ours[low].shape[-1], theirs[high].shape[-1])
        if sizes[0] != sizes[1]:
            widths[low] = sizes
    return StateProjection(widths) if widths else None


def project_vectors(student: Outputs, teacher: Outputs) -> VectorProjection | None:
    """Return what brings the student's vectors to the teacher's width; None where they have it."""
    source, target = student.logits.shape[-1], teacher.logits.shape[-1]
    return None if source == target else VectorProjection(source, target)
