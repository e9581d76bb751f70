"""Sortable, prefixed ids: `job-01jd...`, a 48-bit millisecond time and 80 random bits (the ULID layout)."""

from __future__ import annotations

import secrets

from app.kit.clock import now

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case


def new_id(prefix: str) -> str:
    """Return a new id such as `job-01jdb6m1v4c9x8f2k7qn5t3w0e`, ordered by creation time."""
    value = (int(now() * 1000) << 80) | secrets.randbits(80)
    digits: list[str] = []
    for _ in range(26):
        value, remainder = divmod(value, 32)
        digits.append(_ALPHABET[remainder])
    return f"{prefix}-{''.join(reversed(digits))}"


def short_id() -> str:
    """Return 10 random characters (50 bits), for ids that people read."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))
