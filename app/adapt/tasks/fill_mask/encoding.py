"""From texts to token ids, and which of them may be hidden. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.adapt.outputs import Encoded
from app.adapt.task import Example
from app.adapt.tasks.fill_mask.predict import MASKS
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, share: float
) -> list[Encoded]:
    """Return rows whose `extra` holds what hiding needs; `units` is how many tokens will be hidden.

    Raises:
        InvalidSpec: the tokenizer has no mask token.
    """
    if not examples:
        return []
    made: Any = tokenizer
    if made.mask_token_id is None:
        message = "model: its tokenizer has no mask token, so it cannot do fill-mask"
        raise InvalidSpec(message, param="model", code="model_does_not_fit")
    batch: Any = made(
        [_with_masks(example.inputs["text"], made.mask_token) for example in examples],
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    types = batch.get("token_type_ids")
    special = set(made.all_special_ids)
    rows: list[Encoded] = []
    for at, owner in enumerate(batch["overflow_to_sample_mapping"]):
        ids = batch["input_ids"][at]
        example = examples[owner]
        maskable = [place for place, token in enumerate(ids) if token not in special]
        if example.target and not maskable:
            continue  # a text of unknown tokens has nothing to be found again
        count = max(1, round(len(maskable) * share))
        rows.append(
            Encoded(
                ids,
                token_type_ids=None if types is None else types[at],
                target=True if example.target else None,
                row=example.row,
                example=owner,
                units=count if example.target else 1,
                extra={"maskable": maskable, "tokenizer": made},
            )
        )
    return rows


def _with_masks(text: str, mask: str) -> str:
    """Return the text with the tokenizer's own mask for the ones that people write."""
    for known in MASKS:
        text = text.replace(known, mask)
    return text
