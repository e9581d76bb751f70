"""Cursor pagination, the same on every list: `after`, `limit`, `order`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Query


@dataclass(frozen=True)
class Cursor:
    """Where a page starts and how long it is."""

    after: str | None
    limit: int
    order: Literal["asc", "desc"]


async def get_cursor(
    after: Annotated[str | None, Query(max_length=255, description="Id of the last item seen.")]
    = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> Cursor:  # fmt: skip
    """Read the cursor from the query; a FastAPI dependency."""
    return Cursor(after, limit, order)


Paged = Annotated[Cursor, Depends(get_cursor)]


def list_body(data: Sequence[Any], has_more: bool) -> dict[str, Any]:
    """Return the list envelope; items are dicts or schemas with an `id`."""
    ids = [item["id"] if isinstance(item, dict) else item.id for item in data]
    return {
        "object": "list",
        "data": list(data),
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": has_more,
    }
