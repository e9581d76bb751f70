"""The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header): reading and fingerprinting.

The key's row is written by the slice that creates the resource, in the same transaction.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Header

from app.errors import InvalidRequest
from app.kit.canonical import canonical_json

MAX_LENGTH = 255


async def idempotency_key(
    value: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
) -> str | None:
    """Return the caller's key, None without one; a FastAPI dependency.

    Raises:
        InvalidRequest: not 1 to 255 visible ASCII characters.
    """
    if value is None:
        return None
    if not 0 < len(value) <= MAX_LENGTH or not all("!" <= c <= "~" for c in value):
        message = "Idempotency-Key must be 1 to 255 visible ASCII characters"
        raise InvalidRequest(message, param="Idempotency-Key")
    return value


def request_fingerprint(method: str, path: str, body: Any) -> str:
    """Return the SHA-256 that tells a repeated request from another one under the same key."""
    return hashlib.sha256(f"{method} {path}\n{canonical_json(body)}".encode()).hexdigest()
