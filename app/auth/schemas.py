"""What the key routes take and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.auth.tables import ApiKey
from app.kit.schema import Frozen, Schema


class KeyIn(Frozen):
    """A key to make."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    scopes: list[str] = Field(
        default=["all"], max_length=16, description="Scopes or presets: all, read-only, predict."
    )
    expires_in_s: float | None = Field(default=None, gt=0, le=10 * 365 * 86400)


class KeyOut(Schema):
    """A key, without its secret."""

    object: Literal["key"] = "key"
    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None

    @classmethod
    def of(cls, row: ApiKey) -> KeyOut:
        """Build the answer from a row."""
        return cls(
            id=row.id,
            name=row.name,
            prefix=f"ak-{row.prefix}",
            scopes=row.scopes,
            created_at=int(row.created_at),
            expires_at=_seconds(row.expires_at),
            revoked_at=_seconds(row.revoked_at),
            last_used_at=_seconds(row.last_used_at),
        )


class NewKeyOut(KeyOut):
    """A fresh key; `key` is shown this once."""

    key: str


class MeOut(Schema):
    """Who the caller is."""

    object: Literal["identity"] = "identity"
    tenant_id: str
    key_id: str
    scopes: list[str]


def _seconds(value: float | None) -> int | None:
    return None if value is None else int(value)
