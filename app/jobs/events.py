"""A job's history as server-sent events: `id:` is the event's seq, so that `Last-Event-ID` resumes exactly.

The tail polls the event table, which is what makes it the same on every database and replica.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from sse_starlette import ServerSentEvent

from app.jobs.repository import JobRepository
from app.jobs.schemas import EventOut, JobOut
from app.jobs.state import TERMINAL
from app.kit.db import Database

POLL_S = 0.4
PAGE = 200
RETRY_MS = 3000


def _read(
    database: Database, tenant_id: str, job_id: str, after: int
) -> tuple[list[EventOut], JobOut, bool]:
    with database.read() as session:
        jobs = JobRepository(session, tenant_id)
        # The job first: a terminal state seen here has its event in the page that is read next.
        job, position = jobs.get_placed(job_id)
        events = [EventOut.of(event) for event in jobs.events(job_id, after=after, limit=PAGE)]
        out = JobOut.of(job, position)
    is_over = job.state in TERMINAL and len(events) < PAGE
    return events, out, is_over


async def stream(
    database: Database, tenant_id: str, job_id: str, after: int
) -> AsyncIterator[ServerSentEvent]:
    """Yield the job's events above `after`, progress as it moves, and `end` at a terminal state."""
    progress: object = None
    while True:
        events, job, is_over = await asyncio.to_thread(_read, database, tenant_id, job_id, after)
        for event in events:
            after = event.seq
            yield ServerSentEvent(
                event.model_dump_json(), event=event.type, id=str(event.seq), retry=RETRY_MS
            )
        current = {"state": job.state, "phase": job.phase, "progress": job.progress,
                   "queue_position": job.queue_position}  # fmt: skip
        if current != progress:
            progress = current
            yield ServerSentEvent(json.dumps(current), event="progress")
        if is_over:
            yield ServerSentEvent(job.model_dump_json(), event="end")
            return
        if len(events) < PAGE:
            await asyncio.sleep(POLL_S)
