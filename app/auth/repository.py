"""Tenants and keys in the database."""

from __future__ import annotations

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.auth.tables import ApiKey, Tenant
from app.kit.db import db_now
from app.kit.repository import Repository


class KeyRepository(Repository[ApiKey]):
    """Keys of one tenant."""

    table = ApiKey
    noun = "key"


def tenant_by_name(session: Session, name: str) -> Tenant | None:
    """Return the tenant of this name."""
    return session.scalar(select(Tenant).where(Tenant.name == name))


def live_key(session: Session, prefix: str) -> ApiKey | None:
    """Return the key of this prefix unless it is revoked or expired; not scoped, it finds the tenant."""
    return session.scalar(
        select(ApiKey).where(
            ApiKey.prefix == prefix,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now()),
        )
    )


def revoke(session: Session, key_id: str) -> None:
    """Revoke a key; a revoked one keeps its first time."""
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, db_now()))
    )


def touch(session: Session, key_id: str, at_most_every_s: float) -> None:
    """Note that a key was used, but not on every request."""
    session.execute(
        update(ApiKey)
        .where(
            ApiKey.id == key_id,
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < db_now() - at_most_every_s),
        )
        .values(last_used_at=db_now())
    )
