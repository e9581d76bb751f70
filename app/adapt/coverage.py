"""How much of the data a model's tokenizer knows. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MUCH = 0.05


def unknown_tokens(texts: Iterable[Sequence[int]], unknown_id: int | None) -> str | None:
    """Return a warning when many token ids are the unknown one, None when few are."""
    if unknown_id is None:
        return None
    total = unknown = 0
    for ids in texts:
        total += len(ids)
        unknown += ids.count(unknown_id)
    return unknown_share(total, unknown)


def unknown_share(total: int, unknown: int) -> str | None:
    """Return the warning for so many unknown tokens among so many, None when they are few."""
    if not total or unknown / total < MUCH:
        return None
    return (
        f"{unknown / total:.0%} of the tokens are unknown to this model's tokenizer: it was hardly made "
        "for this language, and another base model will do better"
    )
