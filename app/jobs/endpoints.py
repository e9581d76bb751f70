"""The routes under `/v1/jobs`. No logic: transactions open and close here, everything else is below."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from sse_starlette import EventSourceResponse

from app.auth.dependencies import Identity, require
from app.errors import InvalidRequest
from app.http.idempotency import idempotency_key, request_fingerprint
from app.http.pagination import Paged, list_body
from app.http.problem import error_responses
from app.http.state import Services, get_services
from app.jobs.check import check_job
from app.jobs.events import stream
from app.jobs.repository import JobRepository
from app.jobs.schemas import CheckOut, CheckpointOut, EventOut, JobOut, ListOut, RunOut, SeriesOut
from app.jobs.service import Idempotency, JobService
from app.jobs.state import State
from app.kit.db import after_commit
from app.spec.job import SPECS, parse_spec
from app.telemetry import JOBS_SUBMITTED

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=error_responses(400, 401, 403, 404))

Reader = Annotated[Identity, Depends(require("jobs:read"))]
Writer = Annotated[Identity, Depends(require("jobs:write"))]
Shared = Annotated[Services, Depends(get_services)]

# The spec is documented as the model it is, but parsed by `parse_spec`, whose errors name plain paths.
SpecBody = Annotated[dict[str, Any], Body(description="A job spec of any kind.")]
SPEC_ONE_OF = {"oneOf": [{"$ref": f"#/components/schemas/{s.__name__}"} for s in SPECS.values()]}
SPEC_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": SPEC_ONE_OF}},
    }
}
SPEC_MODELS = tuple(SPECS.values())


@router.post("", status_code=201, openapi_extra=SPEC_SCHEMA)
def create_job(
    body: SpecBody, request: Request, response: Response, identity: Writer, services: Shared,
    key: Annotated[str | None, Depends(idempotency_key)] = None,
) -> JobOut:  # fmt: skip
    """Accept a job and queue it. With `Idempotency-Key`, a repeated request returns the first job."""
    spec = parse_spec(body)  # before the transaction: SQLite has one writer at a time
    idempotency = None
    if key is not None:
        idempotency = Idempotency(key, request_fingerprint("POST", request.url.path, body))
    with services.database.transaction() as session:
        service = JobService(session, identity.tenant_id, services.settings)
        submitted = service.submit(spec, idempotency)
        wake = getattr(request.app.state, "wake_relay", None)
        if wake is not None:
            after_commit(session, wake)
    if submitted.is_replay:
        response.headers["Idempotent-Replayed"] = "true"
    else:
        JOBS_SUBMITTED.labels(kind=submitted.job.kind).inc()
    return JobOut.of(submitted.job, submitted.queue_position)


@router.post("/check", openapi_extra=SPEC_SCHEMA)
def check(body: SpecBody, identity: Writer, services: Shared) -> CheckOut:
    """Dry run: the spec with every default resolved, what the data looks like, an estimate of cost."""
    spec = parse_spec(body)
    return check_job(
        services.database, services.layout, services.settings, identity.tenant_id, spec
    )


@router.get("")
def list_jobs(
    identity: Reader, services: Shared, cursor: Paged,
    state: Annotated[State | None, Query()] = None,
    kind: Annotated[str | None, Query(max_length=32)] = None,
) -> ListOut:  # fmt: skip
    """List the tenant's jobs, newest first."""
    with services.database.read() as session:
        page = JobRepository(session, identity.tenant_id).list_page(
            after=cursor.after,
            limit=cursor.limit,
            descending=cursor.order == "desc",
            state=state,
            kind=kind,
        )
    return ListOut.model_validate(list_body([JobOut.of(job) for job in page.rows], page.has_more))


@router.get("/{job_id}")
def get_job(job_id: str, identity: Reader, services: Shared) -> JobOut:
    """Return one job with its state, phase, progress and, in the end, its report and model."""
    with services.database.read() as session:
        return JobOut.of(*JobRepository(session, identity.tenant_id).get_placed(job_id))


@router.post("/{job_id}/cancel", responses=error_responses(409))
def cancel_job(job_id: str, identity: Writer, services: Shared) -> JobOut:
    """Cancel: at once when queued; a running job stops within seconds and never succeeds after this."""
    with services.database.transaction() as session:
        job = JobService(session, identity.tenant_id, services.settings).cancel(job_id)
    return JobOut.of(job)


@router.get(
    "/{job_id}/events",
    response_model=ListOut,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def list_events(
    job_id: str, identity: Reader, services: Shared,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[str | None, Query(description="Events after this seq or event id.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:  # fmt: skip
    """Return the job's history, oldest first; with `Accept: text/event-stream`, follow it live."""
    start = _seq(after if after is not None else last_event_id)
    with services.database.read() as session:
        jobs = JobRepository(session, identity.tenant_id)
        jobs.get(job_id)
        if "text/event-stream" in accept:
            events = stream(services.database, identity.tenant_id, job_id, start)
            return EventSourceResponse(events, ping=15)
        rows = jobs.events(job_id, after=start, limit=limit + 1)
        data = [EventOut.of(row) for row in rows[:limit]]
    return list_body(data, len(rows) > limit)


@router.get("/{job_id}/metrics")
def list_metrics(
    job_id: str, identity: Reader, services: Shared,
    name: Annotated[list[str] | None, Query(max_length=50)] = None,
) -> ListOut:  # fmt: skip
    """Return the job's metric series, each as [step, value] points."""
    with services.database.read() as session:
        jobs = JobRepository(session, identity.tenant_id)
        jobs.get(job_id)
        series = jobs.metrics(job_id, name)
    return ListOut(data=[SeriesOut(name=name, points=points) for name, points in series.items()])


@router.get("/{job_id}/checkpoints")
def list_checkpoints(job_id: str, identity: Reader, services: Shared, cursor: Paged) -> ListOut:
    """List the checkpoints that the job can be resumed from, newest first."""
    with services.database.read() as session:
        jobs = JobRepository(session, identity.tenant_id)
        jobs.get(job_id)
        page = jobs.checkpoints(job_id).page(
            after=cursor.after, limit=cursor.limit, descending=cursor.order == "desc"
        )
    data = [CheckpointOut.of(row) for row in page.rows]
    return ListOut.model_validate(list_body(data, page.has_more))


@router.get("/{job_id}/runs")
def list_runs(job_id: str, identity: Reader, services: Shared, cursor: Paged) -> ListOut:
    """List the attempts at the job, newest first: worker, hardware, versions, how each ended."""
    with services.database.read() as session:
        jobs = JobRepository(session, identity.tenant_id)
        jobs.get(job_id)
        page = jobs.runs(job_id).page(
            after=cursor.after, limit=cursor.limit, descending=cursor.order == "desc"
        )
    data = [RunOut.of(row) for row in page.rows]
    return ListOut.model_validate(list_body(data, page.has_more))


def _seq(value: str | None) -> int:
    """Read a seq from `12`, or from an event id such as `job-...:12`."""
    if value is None:
        return 0
    text = value.rpartition(":")[2]
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - fits an int4
        message = f"not the seq or id of an event: {value[:64]!r}"
        raise InvalidRequest(message, param="after")
    return int(text)
