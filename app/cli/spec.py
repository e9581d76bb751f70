"""From options to a job spec: `--set optimization.epochs=3`, `--columns text=review`, `--spec`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.cli.exits import Code, Failure


def assign(target: dict[str, Any], item: str) -> None:
    """Set one dotted path; the value is JSON where it parses as such, else text."""
    path, separator, text = item.partition("=")
    names = path.strip().split(".")
    if not separator or not all(names):
        raise Failure(
            f"--set takes path=value, e.g. optimization.epochs=3; not {item!r}", Code.USAGE
        )
    for name in names[:-1]:
        inner = target.setdefault(name, {})
        # `task=text-classification` and `task.labels=[...]` mean the same object.
        if isinstance(inner, str):
            inner = target[name] = {"kind": inner}
        if not isinstance(inner, dict):
            raise Failure(f"--set {item}: {name} is not an object", Code.USAGE)
        target = inner
    try:
        target[names[-1]] = json.loads(text)
    except ValueError:
        target[names[-1]] = text


def columns(items: list[str]) -> dict[str, str]:
    """Return role to column from `text=review` items, which commas may join."""
    found: dict[str, str] = {}
    for item in (part for joined in items for part in joined.split(",")):
        role, separator, column = item.partition("=")
        if not separator or not role or not column:
            raise Failure(
                f"--columns takes role=column, e.g. text=review; not {item!r}", Code.USAGE
            )
        found[role.strip()] = column
    return found


def read(path: Path) -> dict[str, Any]:
    """Return the spec in a JSON file."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or error}", Code.USAGE) from None
    except ValueError as error:
        raise Failure(f"{path} is not JSON: {error}", Code.USAGE) from None
    if not isinstance(value, dict):
        raise Failure(f"{path} must hold one JSON object, the spec", Code.USAGE)
    return dict(value)
