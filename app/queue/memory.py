"""The in-memory twin of the queue, for one process: hints are kept in order, and can be refused."""

from __future__ import annotations

from app.errors import Unavailable


class MemoryQueue:
    """Keeps hints in `sent`; with `is_down` set it behaves like an unreachable broker."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_down = False

    def send(self, job_id: str) -> None:
        """Keep one hint."""
        self.check()
        self.sent.append(job_id)

    def check(self) -> None:
        """Raise `Unavailable` when told to be down."""
        if self.is_down:
            message = "the broker is not available"
            raise Unavailable(message, code="broker_unavailable")
