"""Alembic's entry: runs the versions against the URL it was given, in one transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from app.tables import metadata

LOCK = 4_155_741  # any number, the same for every migration of this project


def run(connection: Connection) -> None:
    """Run the migrations on an open connection; one process at a time on PostgreSQL."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.run_migrations()


run(context.config.attributes["connection"])
