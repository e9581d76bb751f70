"""Making, checking and revoking keys.

A key reads `ak-<8 id>-<40 secret><6 check>`: the id finds the row, the check sum (CRC-32 of the rest)
lets garbage be refused without a look-up, and the row holds HMAC-SHA256(pepper, key). The secret has 200
random bits, so a slow password hash would add nothing. Secret scanners: `ak-[0-9a-z]{8}-[0-9a-z]{46}`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.auth import repository
from app.auth.scopes import parse_scopes
from app.auth.tables import ApiKey, Tenant
from app.errors import InvalidRequest, Unauthenticated
from app.kit.db import database_now
from app.kit.ids import new_id

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PATTERN = re.compile(r"^ak-([0-9a-z]{8})-([0-9a-z]{40})([0-9a-z]{6})$")
TENANT_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")
TOUCH_EVERY_S = 60.0


@dataclass(frozen=True)
class Identity:
    """Who is calling, proven by a key."""

    tenant_id: str
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class NewKey:
    """A fresh key; `secret` exists here and nowhere else."""

    row: ApiKey
    secret: str


def ensure_tenant(session: Session, name: str) -> Tenant:
    """Return the tenant of this name, made if need be.

    Raises:
        InvalidRequest: not a name of lower-case letters, digits and hyphens.
    """
    if not TENANT_NAME.fullmatch(name):
        message = f"tenant names are lower-case letters, digits and hyphens, not {name!r}"
        raise InvalidRequest(message, param="tenant")
    tenant = repository.tenant_by_name(session, name)
    if tenant is None:
        tenant = Tenant(id=new_id("tenant"), name=name, created_at=database_now(session))
        session.add(tenant)
        session.flush()
    return tenant


def create_key(
    session: Session, pepper: bytes, tenant_id: str, *, name: str, scopes: list[str],
    expires_in_s: float | None = None,
) -> NewKey:  # fmt: skip
    """Make a key for a tenant and return it with its secret, which cannot be had again."""
    prefix = "".join(secrets.choice(ALPHABET) for _ in range(8))
    body = f"ak-{prefix}-{''.join(secrets.choice(ALPHABET) for _ in range(40))}"
    secret = body + _check_sum(body)
    now = database_now(session)
    row = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        prefix=prefix,
        hash=_digest(pepper, secret),
        scopes=parse_scopes(scopes),
        created_at=now,
        expires_at=None if expires_in_s is None else now + expires_in_s,
    )
    session.add(row)
    session.flush()
    return NewKey(row, secret)


def authenticate(session: Session, pepper: bytes, secret: str) -> Identity:
    """Return whose key this is.

    Raises:
        Unauthenticated: malformed, unknown, wrong, expired or revoked; which of them is not told.
    """
    match = PATTERN.fullmatch(secret)
    if match is None or _check_sum(secret[:-6]) != match[3]:
        raise Unauthenticated(WRONG_KEY)
    row = repository.live_key(session, match[1])
    # Compared even when there is no row, so that the time taken does not tell.
    expected = row.hash if row is not None else "0" * 64
    is_right = hmac.compare_digest(expected, _digest(pepper, secret))
    if row is None or not is_right:
        raise Unauthenticated(WRONG_KEY)
    return Identity(row.tenant_id, row.id, frozenset(row.scopes))


WRONG_KEY = "this API key is wrong, expired or revoked; make one with `attune keys create`"


def _digest(pepper: bytes, secret: str) -> str:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


def _check_sum(text: str) -> str:
    value = zlib.crc32(text.encode())
    digits: list[str] = []
    for _ in range(6):
        value, remainder = divmod(value, 32)
        digits.append(ALPHABET[remainder])
    return "".join(digits)
