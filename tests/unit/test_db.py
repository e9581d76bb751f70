"""Sessions on SQLite: one writer at a time, readers beside it, and errors that say to try again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from app.errors import Unavailable
from app.kit import db
from app.kit.db import Database, after_commit


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path / 'test.db'}")
    with made.transaction() as session:
        session.execute(text("CREATE TABLE counters (n INTEGER)"))
        session.execute(text("INSERT INTO counters VALUES (0)"))
    yield made
    made.dispose()


def value(database: Database) -> int:
    with database.read() as session:
        return session.execute(text("SELECT n FROM counters")).scalar_one()


def test_no_increment_is_lost_between_threads_and_processes(database: Database):
    other = Database(database.url)  # as another process has it: its own connections, its own lock

    def add(made: Database) -> None:
        for _ in range(25):
            with made.transaction() as session:
                n = session.execute(text("SELECT n FROM counters")).scalar_one()
                session.execute(text("UPDATE counters SET n = :n"), {"n": n + 1})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, [database, other] * 3))
    assert value(database) == 150
    other.dispose()


def test_readers_see_what_is_committed_and_never_wait(database: Database):
    with database.transaction() as session:
        session.execute(text("UPDATE counters SET n = 7"))
        assert value(database) == 0
    assert value(database) == 7


def test_an_error_rolls_back_and_frees_the_turn(database: Database):
    ran: list[str] = []

    def fail() -> None:
        with database.transaction() as session:
            after_commit(session, lambda: ran.append("committed"))
            session.execute(text("UPDATE counters SET n = 9"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (value(database), ran) == (0, [])
    with database.transaction() as session:
        after_commit(session, lambda: ran.append("committed"))
        assert ran == []
    assert ran == ["committed"]


def test_a_writer_that_waits_too_long_is_told_to_try_again(database: Database, monkeypatch):
    monkeypatch.setattr(db, "BUSY_S", 0.05)
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with database.transaction():
            holds.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    holds.wait(10)
    with pytest.raises(Unavailable, match="try again"), database.transaction():
        pass
    done.set()
    holder.join()
    with database.transaction() as session:
        session.execute(text("UPDATE counters SET n = 1"))
    assert value(database) == 1
