"""At which migration a database stands, read without Alembic."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session


def current_revision(session: Session) -> str | None:
    """Return the database's migration, None when there is none yet."""
    try:
        return session.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except (OperationalError, ProgrammingError):
        return None
