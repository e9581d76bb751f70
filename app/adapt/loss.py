"""The loss contract: one weighted term of the objective L(y, f(x)) + λ·D(f, g), f student, g teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from app.adapt.outputs import Batch, Internal, Outputs
from app.adapt.schedule import NonNegative, Schedule
from app.kit.registry import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn


def _form(value: Any) -> str:
    return "name" if isinstance(value, str) else "pairs"


_Layer = Annotated[int, Field(ge=0)]
# Which layers are compared: 0 the embeddings, 1 the first block. See `app.adapt.layers.mapping`.
Layers = Annotated[
    Annotated[Literal["auto", "last"], Tag("name")]
    | Annotated[list[tuple[_Layer, _Layer]], Field(min_length=1, max_length=256), Tag("pairs")],
    Discriminator(_form),
]


class Loss(Plugin, ABC):
    """One term. Subclass it in one file under `losses/`; torch is imported inside its methods only.

    What it reads beside logits and targets it says by class: a loss that `needs_hidden`, for example,
    is given outputs whose `hidden` are filled.
    """

    needs_teacher: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False
    needs_attentions: ClassVar[bool] = False
    needs_relations: ClassVar[bool] = False
    same_tokens: ClassVar[bool] = False  # it compares token by token: one tokenizer for both
    needs_whole_batch: ClassVar[bool] = False  # it compares rows: a batch cannot be cut into parts
    batch_size: ClassVar[int | None] = (
        None  # what "auto" stands for; None: by how many rows there are
    )

    weight: NonNegative = Field(default=1.0, description="Factor of this term in the sum.")

    @abstractmethod
    def compute(self, student: Outputs, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Return the unweighted scalar mean over the batch; padding never contributes.

        Each row counts by its share of targets (`Batch.units_B`), so that the parts of a batch, weighted
        by theirs, make the whole.
        """

    def prepare(self, student: Outputs, teacher: Outputs) -> nn.Module | None:
        """See whether it can compare these two; return what it has to learn for that; default: nothing.

        Called once, on what both say about a few rows. What is learned takes the student's outputs and
        returns the outputs that `compute` is given as the student's: hidden states brought to the
        teacher's width. It is trained with the student and thrown away after.

        Raises:
            InvalidSpec: it cannot; `param` is the field of the loss that would have to change.
        """
        del student, teacher
        return None

    def at(self, fraction: float) -> Self:
        """Return the loss with numbers for its schedules, when this fraction of the training is done."""
        moved = {name: value.at(fraction) for name, value in self if isinstance(value, Schedule)}
        return self.model_copy(update=moved) if moved else self


def internals(losses: Sequence[Loss]) -> frozenset[Internal]:
    """Return what these losses read of the inside of student and teacher."""
    needs: dict[Internal, bool] = {
        "hidden": any(loss.needs_hidden for loss in losses),
        "attentions": any(loss.needs_attentions for loss in losses),
        "relations": any(loss.needs_relations for loss in losses),
    }
    return frozenset(name for name, is_needed in needs.items() if is_needed)


def taught(teacher: Outputs | None) -> Outputs:
    """Return the teacher's outputs for a loss that is never computed without them."""
    if teacher is None:
        message = "this loss needs a teacher"
        raise AssertionError(message)
    return teacher
