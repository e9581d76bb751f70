"""One way to the database for API, workers and CLI: synchronous sessions, explicit transactions.

SQLite: WAL, synchronous=FULL, and every write transaction starts with BEGIN IMMEDIATE, because a
deferred read-then-write fails at once with SQLITE_BUSY whatever the timeout says
(https://simonwillison.net/2025/Feb/17/sqlite-busy/). PostgreSQL: READ COMMITTED, whose UPDATE ... WHERE
re-checks its condition on the row it locks, which is what every guard here relies on.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, MetaData, create_engine, event, select, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.functions import FunctionElement

from app.errors import Unavailable

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
AFTER_COMMIT = "attune_after_commit"
BUSY = "the database is not available; try again"
BUSY_S = 15.0  # how long a writer waits for its turn


class Base(DeclarativeBase):
    """Base of all tables; the naming convention lets migrations name every constraint."""

    metadata = MetaData(naming_convention=NAMING)


class db_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """The database's own clock in unix seconds; the only time that leases are compared by."""

    type = Double()
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    # clock_timestamp, not now(): the latter stands still within a transaction.
    return "extract(epoch from clock_timestamp())::double precision"


class Database:
    """An engine and the two kinds of session that exist: `transaction()` and `read()`."""

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite_engine(url) if self.is_sqlite else _server_engine(url, pool_size)
        # SQLite has one writer, and a connection that finds it busy sleeps for up to 100 ms before it
        # looks again (sqlite3_busy_timeout). Threads of one process can do better: they queue here.
        self._writer = threading.Lock()

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """Give a session whose work is committed at the end, or rolled back when an error passes.

        Raises:
            Unavailable: the database cannot be reached or is locked for too long.
        """
        with (
            _translated(),
            self._turn(),
            Session(self.engine, expire_on_commit=False) as session,
        ):
            if self.is_sqlite:
                session.connection(execution_options={"attune_writes": True})
            yield session
            session.commit()
        for callback in session.info.pop(AFTER_COMMIT, []):
            callback()

    @contextmanager
    def _turn(self) -> Generator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=BUSY_S):
            raise Unavailable(BUSY, code="database_unavailable")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def read(self) -> Generator[Session]:
        """Give a session for reading: every statement sees what is committed when it starts.

        As PostgreSQL's READ COMMITTED has it; on SQLite no transaction is opened at all, which spares two
        statements a request and never holds back a checkpoint of the write-ahead log.
        """
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            # Closing rolls back. An explicit rollback would expire the rows that callers still read.
            yield session

    def check(self) -> None:
        """Raise `Unavailable` unless the database accepts a write transaction."""
        with self.transaction() as session:
            session.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def database_now(session: Session) -> float:
    """Return the database's clock in unix seconds."""
    return float(session.execute(select(db_now())).scalar_one())


def upsert(session: Session) -> Any:
    """Return the dialect's INSERT, the one that knows ON CONFLICT."""
    return sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert


def after_commit(session: Session, callback: Callable[[], object]) -> None:
    """Run `callback` once the surrounding transaction has committed; never when it rolls back."""
    session.info.setdefault(AFTER_COMMIT, []).append(callback)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(BUSY, code="database_unavailable") from error


def _sqlite_engine(url: str) -> Engine:
    path = re.sub(r"^sqlite(\+\w+)?:///", "", url)
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, pool_size=20, max_overflow=20, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # The driver must not open transactions by itself: `_begin` below decides how.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("attune_writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _server_engine(url: str, pool_size: int) -> Engine:
    # A bare postgresql:// means psycopg 3, the driver that ships with us.
    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"connect_timeout": 5},
    )
