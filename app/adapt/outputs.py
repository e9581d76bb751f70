"""What flows between tokenizers, networks and losses: the small fixed vocabulary of the adapt plug-ins.

Shapes: B batch, T tokens, H hidden, C classes (or scores), V vocabulary, N sequences, A attention heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

# What logits are: a class (softmax over the last axis), labels that hold or not (each logit by itself),
# a span (softmax over tokens, for its first and its last), a number, or a vector of each text.
Answer = Literal["class", "labels", "span", "number", "vector"]
# How a teacher teaches a task: its scores are noted in each row; of each token that is to be written, its
# shares of the vocabulary; or it runs beside its student, because every step reads something else.
Teaching = Literal["scores", "tokens", "beside"]
Internal = Literal["hidden", "attentions", "relations"]
Relation = tuple["Tensor", "Tensor", "Tensor"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sequence, or several that belong together, as token ids; what one row of a batch is made of.

    One example may become several of these (windows of a long text): `example` is its index among the
    examples that were encoded together. `target` is whatever the task's network collates, None to
    predict; `others` holds further sequences (a second text, what a decoder should say), and `extra`
    what the task needs to turn scores back into answers (offsets, word ids, references).
    """

    input_ids: list[int]
    token_type_ids: list[int] | None = None
    target: Any = None
    row: int | None = None
    example: int = 0
    others: tuple[list[int], ...] = ()
    units: int = (
        1  # how many targets its loss is a mean over: 1, or the number of its tokens that count
    )
    is_joined: bool = False  # its sequences are read one after the other, as one
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return its size in tokens, which is what batches are made of."""
        return len(self.input_ids) + sum(map(len, self.others))

    @property
    def longest(self) -> int:
        """The size of its longest sequence, which is what `max_length` limits."""
        if not self.others:
            return len(self.input_ids)
        if self.is_joined:
            return len(self.input_ids) + max(map(len, self.others))
        return max(len(self.input_ids), *map(len, self.others))


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded batch on its device; `others` are further tensors by name, for network and losses.

    `units_B` is how many targets each row stands for, one each where there are none: the weight that a
    row has in the mean of a loss.
    """

    input_ids_BT: Tensor
    mask_BT: Tensor
    token_type_ids_BT: Tensor | None = None
    target: Tensor | None = None
    others: dict[str, Tensor] = field(default_factory=dict)
    units_B: Tensor | None = None

    def to(self, device: Any) -> Batch:
        """Return the batch on `device`."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: moved(tensor) for name, tensor in value.items()}
            return None if value is None else value.to(device, non_blocking=True)

        return Batch(**{item.name: moved(getattr(self, item.name)) for item in fields(self)})


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a network says about a batch; losses read only this, never a model class.

    `logits` are (B, C) for one answer a row, (B, T, C) for one a token; a task with another shape says so.
    Of a teacher whose likeliest tokens alone are known, `logits` are K + 1 log-shares and `top_ids` the K
    tokens (`app.adapt.layers.top_tokens`). What goes on inside is filled where it is asked for
    (`app.adapt.layers.internals`), for each of the N sequences that the network read: `hidden` (N, T, H),
    the embeddings' first; of each block `attentions` (N, A, T, T), and `relations`: queries, keys and
    values (N, T, H) with all heads side by side.
    """

    logits: Tensor
    mask_BT: Tensor
    answer: Answer = "class"
    top_ids: Tensor | None = None
    hidden: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    relations: tuple[Relation, ...] | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """A text that a network wrote: its tokens, and whether it ended by itself or at its limit."""

    text: str
    token_ids: list[int]
    finish_reason: str  # "stop" or "length"
