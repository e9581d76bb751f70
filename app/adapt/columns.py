"""Which column of a file is what to a task: as a job names them, else by the headers they are known by."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.errors import InvalidData
from app.kit.counting import all_of


@dataclass(frozen=True)
class Role:
    """A column that the task reads: its name in `data.columns`, and the headers it is known by."""

    name: str
    aliases: tuple[str, ...]
    required: bool = True
    description: str = ""
    is_target: bool = False  # what is to be answered: not there in data that a teacher answers


def match_columns(
    task: str, roles: Sequence[Role], found: Sequence[str], given: Mapping[str, str], filename: str
) -> dict[str, str]:
    """Map the roles of a task, which messages call by its name, to the columns that are found.

    Raises:
        InvalidData: a named column is missing, a role is unknown, or a required one is not found.
    """
    _check_given(task, {role.name for role in roles}, found, given, filename)
    columns = dict(given)
    by_lower = {name.strip().lower(): name for name in reversed(found)}
    for role in roles:
        if role.name in columns:
            continue
        taken = set(columns.values())
        match = next(
            (by_lower[a] for a in (role.name, *role.aliases)
             if a in by_lower and by_lower[a] not in taken), None)  # fmt: skip
        if match is not None:
            columns[role.name] = match
        elif role.required:
            needed = all_of([repr(other.name) for other in roles if other.required])
            message = (
                f"{filename} has no column for {role.name!r}; {task} needs {needed}, "
                f"the file has: {list(found)}; "
                f'name one with data.columns: {{"{role.name}": "..."}}'
            )
            raise InvalidData(
                message,
                param=f"data.columns.{role.name}",
                code="column_not_found",
                details={"file": filename, "found": list(found)},
            )
    return columns


def _check_given(
    task: str, known: set[str], found: Sequence[str], given: Mapping[str, str], filename: str
) -> None:
    for role, column in given.items():
        twin = next((other for other in given if other < role and given[other] == column), None)
        if twin is not None:
            message = f"data.columns: {column!r} is named both for {twin!r} and for {role!r}"
            raise InvalidData(message, param=f"data.columns.{role}", code="same_column")
        if role not in known:
            message = f"data.columns: {task} has no {role!r}; it reads: {sorted(known)}"
            raise InvalidData(message, param=f"data.columns.{role}")
        if column not in found:
            close = difflib.get_close_matches(column, found, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            message = f"{filename} has no column {column!r}; it has: {list(found)}{hint}"
            raise InvalidData(
                message,
                param=f"data.columns.{role}",
                code="column_not_found",
                details={"file": filename, "column": column, "found": list(found)},
            )
