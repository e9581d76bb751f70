"""Which task a data set looks like, for the message that says that it does not fit the one asked for."""

from __future__ import annotations

from collections.abc import Sequence

from app.adapt.plugins import TASKS
from app.adapt.reader import Problems, Row
from app.errors import InvalidData

SAMPLE = 20


def tasks_for(found: Sequence[str], rows: Sequence[Row] = (), *, at_least: int = 1) -> list[str]:
    """Return the tasks that these columns are for, those that use most of them, and so many `at_least`.

    With rows, only tasks that can read the first of them, and call one of the columns by its own name.
    Fill-mask, which takes any text, comes only by itself.
    """
    used: dict[str, tuple[int, int]] = {}
    for plugin in TASKS:
        task = plugin.model_validate({"kind": plugin.name()})
        problems = Problems("")
        try:
            columns = task.resolve_columns(found, {}, "")
            task.parse(rows[:SAMPLE], columns, problems)
        except InvalidData:
            continue
        own = sum(role == column.lower() for role, column in columns.items())
        count = len(set(columns.values()))
        if not problems and (own or not rows) and count >= at_least:
            used[plugin.name()] = (count, own)
    special = {name: count for name, count in used.items() if name != "fill-mask"} or used
    return [name for name, count in special.items() if count == max(special.values())]
