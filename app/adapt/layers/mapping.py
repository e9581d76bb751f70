"""Which layer of a student learns from which layer of its teacher; numbers only, no torch.

Layer 0 is the embeddings, layer m the m-th block: its attention, and the state that it makes.
"""

from __future__ import annotations

from app.adapt.loss import Layers
from app.errors import InvalidSpec


def layer_pairs(layers: Layers, student: int, teacher: int, *, first: int) -> list[tuple[int, int]]:
    """Return pairs (student's layer, teacher's layer) for networks of this many blocks.

    auto: the student's layers from `first` up, spread evenly over the teacher's: m goes to m N / M, M and N
    the numbers of blocks (Jiao et al. 2020, arXiv 1909.10351, the uniform strategy; with every second
    layer that is PKD's skip). last: the top of both.

    Raises:
        InvalidSpec: a network has no such layer; with param "layers".
    """
    if layers == "last":
        return [(student, teacher)]
    if layers == "auto":
        blocks = max(1, student)
        return [
            (layer, (2 * layer * teacher + blocks) // (2 * blocks))
            for layer in range(first, student + 1)
        ]
    for ours, theirs in layers:
        if not (first <= ours <= student and first <= theirs <= teacher):
            message = (
                f"[{ours}, {theirs}] is outside: the student has layers {first} to {student}, the teacher "
                f"{first} to {teacher}"
            )
            raise InvalidSpec(message, param="layers", code="layer_not_found")
    return layers
