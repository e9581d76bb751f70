"""Following a job to its end: events, progress and metrics, through restarts of the server.

A thread reads the event stream into a queue, so that this one can redraw, keep a deadline and be
interrupted. What is drawn is a `View`'s matter (`app.cli.views`).
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Any, Protocol

from app.cli.client import Client, encode
from app.cli.context import Context
from app.cli.exits import Code, Failure
from app.cli.views import view_for
from app.kit.clock import monotonic

OVER = {"succeeded", "failed", "cancelled"}
RECONNECT_S = 120.0  # how long a server may be away before we give up on it
POLL_S = 0.2
METRICS_S = 1.0
SERIES = ("train/loss", "train/learning_rate")


class View(Protocol):
    """Where a followed job is shown."""

    def event(self, event: dict[str, Any]) -> None:
        """Take an entry of the job's history."""
        ...

    def progress(self, state: dict[str, Any], latest: dict[str, float]) -> None:
        """Take state, phase and progress, and the newest value of each series."""
        ...

    def tick(self) -> None:
        """Redraw what depends on time."""
        ...

    def end(self, job: dict[str, Any]) -> None:
        """Take the finished job."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


@dataclass(frozen=True)
class _Message:
    """One thing from the stream: an event's name and data, or the error that ended it."""

    name: str
    data: dict[str, Any]
    error: Failure | None = None


def follow(
    here: Context, job_id: str, timeout_s: float | None = None, *, view: View | None = None
) -> dict[str, Any]:
    """Show a job until it is over, and return it.

    Raises:
        Failure: no such job, the time is up (124), or it was interrupted (130); the job goes on.
    """
    shown = view or view_for(here.out, job_id)
    deadline = None if timeout_s is None else monotonic() + timeout_s
    again = f"the job keeps running; go on with `attune jobs watch {job_id}`"
    try:
        job = _watch(here.client, job_id, shown, deadline)
    except KeyboardInterrupt:
        hint = f"{again}, stop it with `attune jobs cancel {job_id}`"
        raise Failure("interrupted", Code.INTERRUPTED, hint=hint) from None
    finally:
        shown.close()
    if job is None:
        raise Failure(f"not done after {timeout_s:g} s", Code.TIMEOUT, hint=again)
    shown.end(job)
    return job


def _watch(
    client: Client, job_id: str, view: View, deadline: float | None
) -> dict[str, Any] | None:
    messages: queue.Queue[_Message] = queue.Queue()
    reader = threading.Thread(
        target=_read, args=(client, job_id, messages), name="job-events", daemon=True
    )
    reader.start()
    latest: dict[str, float] = {}
    asked_at = 0.0
    while deadline is None or monotonic() < deadline:
        try:
            message = messages.get(timeout=POLL_S)
        except queue.Empty:
            view.tick()
            continue
        if message.error is not None:
            raise message.error
        if message.name == "end":
            return message.data
        if message.name == "progress":
            if message.data.get("state") == "running" and monotonic() - asked_at > METRICS_S:
                asked_at = monotonic()
                latest = _latest(client, job_id) or latest
            view.progress(message.data, latest)
        elif "seq" in message.data:
            view.event(message.data)
    return None


def _read(client: Client, job_id: str, messages: queue.Queue[_Message]) -> None:
    """Read the stream; when it breaks, go on after the last event that came."""
    path = f"/v1/jobs/{encode(job_id)}"
    after, lost_at = 0, None
    while True:
        try:
            for name, data in client.events(f"{path}/events", after):
                lost_at = None
                after = max(after, int(data.get("seq", 0)))
                messages.put(_Message(name, data))
                if name == "end":
                    return
            # A server that shuts down ends its streams; the next one knows how the job stands.
            lost_at = lost_at or monotonic()
        except Failure as failure:
            lost_at = lost_at or monotonic()
            if failure.code != Code.UNREACHABLE or monotonic() - lost_at > RECONNECT_S:
                messages.put(_Message("error", {}, failure))
                return
        threading.Event().wait(0.5)


def _latest(client: Client, job_id: str) -> dict[str, float]:
    """Return the newest value of the series that are shown; empty when the server is away."""
    try:
        body = client.get(f"/v1/jobs/{encode(job_id)}/metrics", name=list(SERIES))
    except Failure:
        return {}
    return {one["name"]: one["points"][-1][1] for one in body["data"] if one["points"]}
