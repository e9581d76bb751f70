"""How the command line speaks: data to stdout, talk to stderr, motion only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from app.cli.exits import Failure

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_PROBLEMS = 5
MINUTE, HOUR = 60, 3600


@dataclass
class Output:
    """The two streams; `is_json` and `is_quiet` are what the user asked for."""

    is_json: bool = False
    is_quiet: bool = False

    @cached_property
    def talk(self) -> Console:
        """The console on stderr; rich honours NO_COLOR and drops motion off a terminal."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    @cached_property
    def data(self) -> Console:
        """The console on stdout."""
        from rich.console import Console

        return Console(highlight=False)

    @property
    def is_live(self) -> bool:
        """Say whether a person watches: only then does anything move."""
        return self.talk.is_terminal and not (self.is_json or self.is_quiet)

    def say(self, message: str, *, style: str | None = None) -> None:
        """Tell the person something; nothing that a program needs."""
        if not self.is_quiet:
            self.talk.print(message, style=style, markup=False)

    def json(self, value: Any, *, is_line: bool = False) -> None:
        """Write one JSON document, or one line of JSON lines."""
        text = json.dumps(value, ensure_ascii=False, indent=None if is_line else 2)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """Write one line of data."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None
    ) -> None:
        """Write a table; off a terminal it is tab-separated and never cut."""
        if not self.data.is_terminal:
            self.line("\t".join(columns))
            for row in rows:
                self.line("\t".join(cell(value).replace("\t", " ") for value in row))
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title, title_justify="left", box=None, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell(value), style=style_of(value)) for value in row))
        self.data.print(table)

    def record(self, pairs: Mapping[str, Any]) -> None:
        """Write one thing as `name  value` lines, leaving out what is not known."""
        width = max((len(name) for name in pairs), default=0)
        for name, value in pairs.items():
            if value is not None and value != "":
                self.line(f"{name:<{width}}  {cell(value)}")

    def listing(self, body: dict[str, Any], columns: Mapping[str, Any]) -> None:
        """Write a list answer as JSON, one id a line, or a table of `columns` (name: getter)."""
        rows = body["data"]
        if self.is_json:
            self.json(body)
        elif self.is_quiet:
            for row in rows:
                self.line(str(row["id"]))
        else:
            self.table(list(columns), [[get(row) for get in columns.values()] for row in rows])
            if body.get("has_more"):
                self.say(f"more: --after {body.get('last_id') or rows[-1]['id']}", style="dim")

    def thing(self, body: dict[str, Any], pairs: Mapping[str, Any]) -> None:
        """Write one object as JSON, as its id, or as a record."""
        if self.is_json:
            self.json(body)
        elif self.is_quiet:
            self.line(str(body["id"]))
        else:
            self.record(pairs)

    def failure(self, failure: Failure) -> None:
        """Say what went wrong, with the field and the first problems by row."""
        if self.is_json:
            self.json({"error": failure.error})
        self.talk.print(f"error: {failure.message}", style="bold red", markup=False)
        param = failure.error.get("param")
        if param and str(param) not in failure.message:
            self.talk.print(f"  field: {param}", markup=False)
        for problem in problems_of(failure.error):
            self.talk.print(f"  {problem}", markup=False)
        if failure.hint:
            self.talk.print(failure.hint, style="dim", markup=False)


def problems_of(error: Mapping[str, Any]) -> list[str]:
    """Return one line for each of the first problems in an error's details, and how many follow."""
    problems: Any = (error.get("details") or {}).get("problems")
    if isinstance(problems, dict):
        found, count = problems.get("first", []), int(problems.get("count", 0))
    elif isinstance(problems, list):
        found, count = problems, len(problems)
    else:
        return []
    lines: list[str] = []
    for problem in found[:SHOWN_PROBLEMS]:
        where = [f"row {problem['row']}" if problem.get("row") is not None else ""]
        where += [f"column {problem['column']!r}" if problem.get("column") else ""]
        where += [str(problem.get("param") or "")]
        place = ", ".join(part for part in where if part)
        lines.append(f"{place}: {problem.get('message')}" if place else str(problem.get("message")))
    if count > len(lines):
        lines.append(f"... and {count - len(lines)} more")
    return lines


def cell(value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def style_of(value: Any) -> str:
    """Return the colour of a job's state; other values have none."""
    styles = {"succeeded": "green", "failed": "red", "running": "cyan", "cancelled": "yellow"}
    return styles.get(value, "") if isinstance(value, str) else ""


def when(seconds: float | None) -> str:
    """Return a time in the machine's zone, `2026-11-23 14:05:09`."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return `4.2 s`, `3 min 05 s` or `2 h 10 min`."""
    if seconds is None:
        return "-"
    if seconds < 9.95:  # noqa: PLR2004 - tenths matter only for the short ones
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"


def size(count: int | None) -> str:
    """Return a number of bytes as `12.3 MB`."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
