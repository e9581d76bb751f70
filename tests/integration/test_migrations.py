"""The migrations on both databases: they make exactly the tables that the code has."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text, update
from sqlalchemy.exc import DatabaseError

from app.auth.tables import Tenant
from app.jobs import lifecycle
from app.jobs.state import State
from app.jobs.tables import Job
from app.kit.db import Database, database_now
from app.tables import SCHEMA_REVISION, metadata
from migrations.run import current, downgrade, head, upgrade
from tests.servers import DATABASES, postgres


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    with postgres() as url:
        yield url


def test_head_equals_the_tables_and_every_step_can_be_undone(url: str) -> None:
    upgrade(url)
    upgrade(url)
    assert current(url) == head() == SCHEMA_REVISION
    database = Database(url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.dispose()
    downgrade(url, "base")
    assert current(url) is None
    upgrade(url)
    assert current(url) == SCHEMA_REVISION


def test_a_finished_job_keeps_its_state_whatever_the_code_does(url: str) -> None:
    upgrade(url)
    database = Database(url)
    with database.transaction() as session:
        session.add(Tenant(id="tenant-a", name="a", created_at=0.0))
        session.flush()
        now = database_now(session)
        lifecycle.accept(
            session,
            Job(id="job-a", tenant_id="tenant-a", kind="fine_tune", spec={}, spec_sha256="",
                state=State.QUEUED, created_at=now, run_after=now),
        )  # fmt: skip
        assert lifecycle.request_cancel(session, "job-a") == State.CANCELLED
    with pytest.raises(DatabaseError, match="keeps its state"), database.transaction() as session:
        session.execute(update(Job).values(state=State.QUEUED))
    with database.read() as session:
        assert session.scalars(select(Job.state)).all() == [State.CANCELLED]
        assert session.scalar(text("SELECT count(*) FROM job_events")) == 2
    database.dispose()


def test_a_claim_and_its_fenced_writes_work_the_same(url: str) -> None:
    upgrade(url)
    database = Database(url)
    with database.transaction() as session:
        session.add(Tenant(id="tenant-a", name="a", created_at=0.0))
        session.flush()
        now = database_now(session)
        job = Job(id="job-a", tenant_id="tenant-a", kind="fine_tune", spec={}, spec_sha256="",
                  state=State.QUEUED, created_at=now, run_after=now)  # fmt: skip
        lifecycle.accept(session, job)
    with database.transaction() as session:
        claim = lifecycle.claim_next(session, "worker", 30.0)
    assert claim is not None
    with database.transaction() as session:
        beat = lifecycle.renew(session, claim, 30.0)
        assert not beat.cancel_requested
        lifecycle.succeed(session, claim, model_id="ft:x", report={}, message="done")
    with database.read() as session:
        assert session.scalars(select(Job.state)).all() == [State.SUCCEEDED]
    database.dispose()
