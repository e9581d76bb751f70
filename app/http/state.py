"""What every route can reach: one object, made by the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from app.kit.db import Database
from app.queue.port import JobQueue
from app.settings import Settings
from app.store.layout import Layout


@dataclass(frozen=True)
class Services:
    """The parts that routes share; `predictor` is None where predictions are switched off."""

    settings: Settings
    database: Database
    layout: Layout
    queue: JobQueue
    predictor: Any | None = None


def services_of(request: Request) -> Services:
    """Return the application's services."""
    services: Services = request.app.state.services
    return services


async def get_services(request: Request) -> Services:
    """Return the services as a FastAPI dependency, async so that no thread is woken for it."""
    return services_of(request)
