"""Time for people and reports. Leases never use it: they compare database time only (`kit.db.db_now`)."""

from __future__ import annotations

import time


def now() -> float:
    """Return unix seconds of this machine's wall clock."""
    return time.time()  # noqa: TID251 - the one place that may


def monotonic() -> float:
    """Return seconds on a clock that never jumps; only differences mean anything."""
    return time.monotonic()
