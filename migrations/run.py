"""Migrations from code: `upgrade`, `downgrade`, `current` and `head`, by database URL."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.kit.db import Database


def config(connection: Connection | None = None) -> Config:
    """Return the Alembic configuration of this folder."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent))
    configuration.attributes["connection"] = connection
    return configuration


def upgrade(url: str, revision: str = "head") -> None:
    """Bring a database to a revision; safe to run twice, and at once from several hosts."""
    database = Database(url)
    # A write transaction from the start: two migrations of one SQLite file take turns.
    engine = database.engine.execution_options(attune_begin="BEGIN IMMEDIATE")
    with engine.begin() as connection:
        command.upgrade(config(connection), revision)
    database.dispose()


def downgrade(url: str, revision: str) -> None:
    """Take a database back to a revision."""
    database = Database(url)
    with database.engine.begin() as connection:
        command.downgrade(config(connection), revision)
    database.dispose()


def current(url: str) -> str | None:
    """Return the revision that a database is at."""
    database = Database(url)
    with database.engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    database.dispose()
    return revision


def head() -> str | None:
    """Return the newest revision of this folder."""
    return ScriptDirectory.from_config(config()).get_current_head()
