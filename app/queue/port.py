"""The queue as the service sees it: a hint that carries a job id. It may be lost, doubled or late."""

from __future__ import annotations

from typing import Protocol

RUN_JOB = "attune.run_job"


class JobQueue(Protocol):
    """Where hints go. An implementation never raises anything but `Unavailable`, and never blocks long."""

    def send(self, job_id: str) -> None:
        """Tell some worker that this job may be claimable.

        Raises:
            Unavailable: the broker cannot be reached; the outbox keeps the hint.
        """
        ...

    def check(self) -> None:
        """Raise `Unavailable` when the broker cannot be reached."""
        ...
