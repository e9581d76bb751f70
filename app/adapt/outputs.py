"""What flows between tokenizers, networks and losses: the small fixed vocabulary of the adapt plug-ins.

Shapes: B batch, T tokens, H hidden, C classes (or scores).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids; `target` is whatever the task's network collates, None to predict.

    `extra` carries what the task needs to turn scores back into answers (offsets, word ids).
    """

    input_ids: list[int]
    token_type_ids: list[int] | None = None
    target: Any = None
    row: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded batch on its device."""

    input_ids_BT: Tensor
    mask_BT: Tensor
    token_type_ids_BT: Tensor | None = None
    target: Tensor | None = None

    def to(self, device: Any) -> Batch:
        """Return the batch on `device`."""
        return Batch(
            *(
                None if tensor is None else tensor.to(device, non_blocking=True)
                for tensor in (
                    self.input_ids_BT,
                    self.mask_BT,
                    self.token_type_ids_BT,
                    self.target,
                )
            )  # pyright: ignore[reportArgumentType] - the first two are never None
        )


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a network says about a batch; losses read only this, never a model class."""

    logits: Tensor
    mask_BT: Tensor
    hidden: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
