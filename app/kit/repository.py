"""What every repository does the same way: fetch within a tenant, and page by cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from app.errors import InvalidRequest, NotFound
from app.kit.db import Base

T = TypeVar("T", bound=Base)
Lock = Literal["shared", "exclusive"]


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of rows, and whether more follow."""

    rows: Sequence[T]
    has_more: bool


class Repository(Generic[T]):
    """Rows of one table that belong to one tenant; `noun` names them in errors."""

    table: type[T]
    noun: str

    def __init__(self, session: Session, tenant_id: str) -> None:
        self.session = session
        self.tenant_id = tenant_id

    def scoped(self) -> Select[T]:
        """Return the select that every query starts from: this tenant's rows only."""
        table: Any = self.table
        return select(self.table).where(table.tenant_id == self.tenant_id)

    def get(self, row_id: str, *, lock: Lock | None = None) -> T:
        """Return one row, locked until the transaction ends when asked.

        Who relies on a row takes it shared, who deletes it takes it exclusive: so that the one waits for
        the other on PostgreSQL. SQLite has one writer at a time anyway.

        Raises:
            NotFound: no such row, or another tenant's: the two must look alike.
        """
        table: Any = self.table
        query = self.scoped().where(table.id == row_id)
        if lock is not None:
            query = query.with_for_update(read=lock == "shared")
        row = self.session.scalar(query)
        if row is None:
            raise self.missing(row_id)
        return row

    def missing(self, row_id: str) -> NotFound:
        """Return the error for a row that is not there, or not this tenant's."""
        return NotFound(f"no {self.noun} {row_id!r}", param="id")

    def page(
        self,
        query: Select[T] | None = None,
        *,
        after: str | None = None,
        limit: int = 20,
        descending: bool = True,
    ) -> Page[T]:
        """Return the rows after the row with id `after`, by creation time.

        Raises:
            InvalidRequest: `after` is not an id of this list.
        """
        table: Any = self.table
        query = self.scoped() if query is None else query
        position = tuple_(table.created_at, table.id)
        if after is not None:
            last = self.session.scalar(self.scoped().where(table.id == after))
            if last is None:
                message = f"no {self.noun} {after!r} to continue after"
                raise InvalidRequest(message, param="after")
            bound = tuple_(getattr(last, "created_at"), getattr(last, "id"))  # noqa: B009
            query = query.where(position < bound if descending else position > bound)
        columns = (table.created_at, table.id)
        query = query.order_by(*(column.desc() if descending else column for column in columns))
        rows = self.session.scalars(query.limit(limit + 1)).all()
        return Page(rows=rows[:limit], has_more=len(rows) > limit)
