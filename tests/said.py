"""What networks might have said about a batch: random outputs with all of their inside."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from app.adapt.loss import Loss
from app.adapt.outputs import Answer, Batch, Outputs

ROWS, TOKENS, CLASSES, HIDDEN, HEADS = 6, 5, 4, 16, 2
LENGTHS = (5, 3, 4, 5, 1, 2)
UNITS = (1, 2, 3, 1, 2, 3)


@dataclass(frozen=True)
class Said:
    """A student's and a teacher's outputs for one batch."""

    student: Outputs
    teacher: Outputs
    batch: Batch

    def rows(self, index: Any) -> Said:
        """Return the same of some rows."""
        return Said(
            _rows(self.student, index), _rows(self.teacher, index), _rows(self.batch, index)
        )

    def value(self, loss: Loss) -> torch.Tensor:
        """Return the loss."""
        teacher = self.teacher if loss.needs_teacher else None
        return loss.compute(self.student, self.batch, teacher)


def _rows(value: Any, index: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value[index]
    if isinstance(value, tuple):
        return tuple(_rows(item, index) for item in value)
    if isinstance(value, Outputs | Batch):
        return replace(
            value, **{f.name: _rows(getattr(value, f.name), index) for f in fields(value)}
        )
    return value


def inside(outputs: Outputs) -> list[torch.Tensor]:
    """Return all tensors that a loss may have a gradient to."""
    relations = [part for block in outputs.relations or () for part in block]
    return [outputs.logits, *(outputs.hidden or ()), *(outputs.attentions or ()), *relations]


def mask() -> torch.Tensor:
    return (torch.arange(TOKENS) < torch.tensor(LENGTHS)[:, None]).long()


def outputs(
    logits: torch.Tensor, *, layers: int, seed: int, hidden: int = HIDDEN, heads: int = HEADS,
    answer: Answer = "class",
) -> Outputs:  # fmt: skip
    """Return these logits with a random inside; attention is shares, and padding gets none."""
    drawn = torch.Generator().manual_seed(seed)
    padding = (mask() == 0)[:, None, None, :]

    def states() -> torch.Tensor:
        return torch.randn((ROWS, TOKENS, hidden), generator=drawn)

    def attention() -> torch.Tensor:
        scores = torch.randn((ROWS, heads, TOKENS, TOKENS), generator=drawn)
        return scores.masked_fill(padding, -torch.inf).softmax(-1)

    return Outputs(
        logits=logits,
        mask_BT=mask(),
        answer=answer,
        hidden=tuple(states() for _ in range(layers + 1)),
        attentions=tuple(attention() for _ in range(layers)),
        relations=tuple((states(), states(), states()) for _ in range(layers)),
    )


def said(
    logits: torch.Tensor, target: torch.Tensor | None = None, *, answer: Answer = "class",
    taught: torch.Tensor | None = None, units: tuple[int, ...] | None = UNITS, **sizes: int,
) -> Said:  # fmt: skip
    """Return a student of two blocks with these logits, and a teacher of four, which has the `sizes`."""
    if taught is None:
        generator = torch.Generator().manual_seed(7)
        taught = torch.randn(logits.shape, generator=generator)
    batch = Batch(
        input_ids_BT=torch.ones((ROWS, TOKENS), dtype=torch.long),
        mask_BT=mask(),
        target=target,
        units_B=None if units is None else torch.tensor(units),
    )
    student = outputs(logits, layers=2, seed=1, answer=answer)
    return Said(student, outputs(taught, layers=4, seed=2, answer=answer, **sizes), batch)
