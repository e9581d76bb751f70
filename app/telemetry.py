"""Logs and metrics. One place configures structlog; one place names every Prometheus metric.

Log events are dotted names with fields (`jobs.claimed job_id=...`). Labels of metrics are bounded: never
a job or tenant id.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from structlog.contextvars import merge_contextvars

from app.settings import Settings

SECRET_FIELDS = frozenset({"authorization", "key", "api_key", "token", "secret", "password"})

HTTP_REQUESTS = Counter(
    "attune_http_requests_total", "HTTP requests answered", ["method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "attune_http_request_seconds", "Time to the end of the response", ["method", "route"]
)
JOBS_SUBMITTED = Counter("attune_jobs_submitted_total", "Jobs accepted", ["kind"])
LEASES_EXPIRED = Counter("attune_lease_expired_total", "Leases that the sweep took back")
DISPATCHES = Counter("attune_dispatches_total", "Hints given to the broker", ["outcome"])
JOBS_IN_STATE = Gauge("attune_jobs_in_state", "Jobs in each state", ["state"])
OUTBOX_PENDING = Gauge("attune_outbox_pending", "Outbox rows not yet delivered")
PREDICT_SECONDS = Histogram("attune_predict_seconds", "Time of one predict request", ["task"])
PREDICT_INPUTS = Counter("attune_predict_inputs_total", "Inputs predicted", ["task"])
BATCH_INPUTS = Histogram(
    "attune_predict_batch_inputs", "Inputs in one batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)


def registry() -> CollectorRegistry:
    """Return the registry that `/metrics` renders."""
    return REGISTRY


def configure_logging(settings: Settings) -> None:
    """Send structlog and the standard library's logs to stderr in one form, secrets masked."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    shared: list[Any] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)


def mask_secrets(_: Any, __: str, event: Any) -> Any:
    """Replace the values of fields that carry secrets."""
    for field in event.keys() & SECRET_FIELDS:
        event[field] = "***"
    return event


def get_logger(name: str) -> Any:
    """Return a logger; bind fields to it, or to the context with `structlog.contextvars`."""
    return structlog.get_logger(name)
