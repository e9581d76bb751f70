"""The composition root: settings become services, services become an application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app import __version__, tables
from app.auth import endpoints as auth
from app.auth.dependencies import KeyCache
from app.files import endpoints as files
from app.http import docs, health, problem
from app.http.middleware import Limited, Observed
from app.http.state import Services
from app.jobs import endpoints as jobs
from app.jobs.background import Background
from app.jobs.service import file_in_use, model_in_use
from app.kit.db import Database
from app.models import endpoints as models
from app.queue.celery import CeleryQueue
from app.queue.port import JobQueue
from app.serving import endpoints as serving
from app.serving.service import make_predictor
from app.settings import Settings
from app.store.layout import Layout
from app.telemetry import configure_logging

DESCRIPTION = """Send data over HTTP, get back a trained, checked, served model.

Upload a file, submit a job, follow it, call the model. Every call needs `Authorization: Bearer <key>`.
"""


def create_app(settings: Settings | None = None, *, queue: JobQueue | None = None) -> FastAPI:
    """Build the application; nothing is connected or started before its lifespan begins."""
    settings = settings or Settings()
    app = FastAPI(
        title="Attune",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.queue = queue
    app.state.key_cache = KeyCache()
    app.state.schema_revision = tables.SCHEMA_REVISION
    app.state.is_draining = False
    app.state.file_in_use = file_in_use
    app.state.model_in_use = model_in_use
    for router in (
        auth.router,
        files.router,
        jobs.router,
        models.router,
        health.router,
        docs.router,
    ):
        app.include_router(router)
    if settings.predict:
        app.include_router(serving.router)
    problem.install(app)
    app.add_middleware(Limited, settings=settings)
    app.add_middleware(Observed)
    app.openapi = lambda: _openapi(app)  # FastAPI's documented way
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    configure_logging(settings)
    database = Database(settings.resolved_database_url)
    layout = Layout(settings.store_dir)
    queue: JobQueue = app.state.queue or CeleryQueue(settings)
    predictor = make_predictor(settings) if settings.predict else None
    app.state.services = Services(settings, database, layout, queue, predictor)
    background = Background(settings, database, queue)
    app.state.wake_relay = background.wake
    background.start()
    try:
        yield
    finally:
        app.state.is_draining = True
        background.stop()
        if predictor is not None:
            await predictor.close()
        database.dispose()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Add the job spec's models, which routes parse by hand, to the generated description."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for model in jobs.SPEC_MODELS:
            definition = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas |= definition.pop("$defs", {})
            schemas[model.__name__] = definition
        app.openapi_schema = schema
    return app.openapi_schema
