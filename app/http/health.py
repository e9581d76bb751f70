"""`/healthz`, `/readyz` and `/metrics`: for load balancers and Prometheus, so without a key."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.errors import Unavailable
from app.http.state import Services, get_services
from app.kit.schema_version import current_revision
from app.telemetry import registry

router = APIRouter(tags=["operations"])

Shared = Annotated[Services, Depends(get_services)]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the process lives; it asks nothing else."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(request: Request, response: Response, services: Shared) -> dict[str, Any]:
    """Say whether requests can be served: database writable, migrated, not shutting down.

    A broker that is away is only reported: jobs are accepted all the same and start when it is back.
    """
    checks = {
        "database": _database(services, request.app.state.schema_revision),
        "broker": _broker(services),
        "serving": "draining" if request.app.state.is_draining else "ok",
    }
    is_ready = checks["database"] == "ok" and checks["serving"] == "ok"
    response.status_code = 200 if is_ready else 503
    return {"status": "ok" if is_ready else "unavailable", "checks": checks}


@router.get("/metrics")
def metrics() -> Response:
    """Return this process's metrics in the Prometheus text format."""
    return Response(generate_latest(registry()), media_type=CONTENT_TYPE_LATEST)


def _database(services: Services, expected: str) -> str:
    try:
        services.database.check()
        with services.database.read() as session:
            current = current_revision(session)
    except Unavailable as error:
        return error.message
    if current != expected:
        return f"the schema is at {current}, this code needs {expected}: run `attune migrate`"
    return "ok"


def _broker(services: Services) -> str:
    try:
        services.queue.check()
    except Unavailable as error:
        return f"degraded: {error.message}; jobs are accepted and wait"
    return "ok"
