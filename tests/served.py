"""The real application on a real SQLite file, with keys of two tenants and models in its store."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from app import tables
from app.auth.service import create_key, ensure_tenant
from app.http.state import Services
from app.kit.db import Database, database_now
from app.main import create_app
from app.models.service import register
from app.queue.memory import MemoryQueue
from app.settings import Settings
from app.store.layout import Layout
from app.store.manifest import Manifest
from tests.tiny import make_finished_folder, make_generator_folder, make_task_folder


class Served:
    """A running application; `client` calls it with the first tenant's key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        database = Database(settings.resolved_database_url)
        tables.metadata.create_all(database.engine)
        with database.transaction() as session:
            self.tenants = [ensure_tenant(session, name).id for name in ("first", "second")]
        self.database = database
        self.app = create_app(settings, queue=MemoryQueue())
        self.client = TestClient(self.app, headers=self.headers())

    def headers(self, tenant: int = 0, scopes: Sequence[str] = ("all",)) -> dict[str, str]:
        """Return the header of a new key."""
        with self.database.transaction() as session:
            key = create_key(
                session, self.settings.pepper, self.tenants[tenant], name="k", scopes=list(scopes)
            )
        return {"Authorization": f"Bearer {key.secret}"}

    @property
    def services(self) -> Services:
        return self.app.state.services

    def add_model(
        self, model_id: str, *, tenant: int = 0, labels: Sequence[str] | None = ("bad", "good"),
        **options: Any,
    ) -> Path:  # fmt: skip
        """Put a tiny finished model into store and registry; return its folder."""
        name = model_id.lower().replace(":", "-").replace(".", "-").removeprefix("ft-")
        layout = Layout(self.settings.store_dir)
        folder = layout.model(name)
        make = make_generator_folder if "architecture" in options else make_finished_folder
        if labels is None and "kind" in options.get("task", {}) and make is make_finished_folder:
            make = make_task_folder
        manifest, digest = make(folder, labels, model_id=model_id, **options)
        self.register(model_id, folder, manifest, digest, tenant)
        return folder

    def register(
        self, model_id: str, folder: Path, manifest: Manifest, digest: str, tenant: int = 0
    ) -> None:
        """Enter a finished model whose folder lies in the store."""
        layout = Layout(self.settings.store_dir)
        with self.database.transaction() as session:
            register(
                session,
                tenant_id=self.tenants[tenant],
                job_id=f"job-{folder.name}"[:40],
                model_id=model_id,
                base="tiny",
                task=manifest.facts["task"]["kind"],
                folder=layout.relative(folder),
                manifest_sha256=digest,
                manifest=manifest.model_dump(mode="json"),
                metrics=manifest.facts["metrics"],
                bytes=manifest.total_bytes,
                now=database_now(session),
            )


@contextmanager
def served(folder: Path, **settings: Any) -> Generator[Served]:
    """Run the application with its state under `folder`."""
    made = Served(Settings(home=folder, hub=False, log_level="error", **settings))
    with made.client:
        yield made
    made.database.dispose()
