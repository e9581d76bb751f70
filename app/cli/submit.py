"""From `jobs submit`'s options to a spec whose files are on the server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli import spec
from app.cli.context import Context
from app.cli.exits import Code, Failure

FILE_ID = re.compile(r"^file-[0-9a-z]{26}$")
FILES = ("train", "validation", "test", "unlabeled", "inputs")


@dataclass(frozen=True)
class Wish:
    """What the options with names of their own say; None where they were not given."""

    model: str | None = None
    task: str | None = None
    files: dict[str, str | None] | None = None
    suffix: str | None = None


def build(
    here: Context, wish: Wish, *, columns: list[str], sets: list[str], file: Path | None
) -> dict[str, Any]:
    """Return the spec: the file's, then the named options, then `--set`; local files are uploaded.

    Raises:
        Failure: an option cannot be read, or a local file is missing.
    """
    body = spec.read(file) if file is not None else {}
    body.setdefault("kind", "fine_tune")
    for name, value in (("model", wish.model), ("task", wish.task), ("suffix", wish.suffix)):
        if value is not None:
            body[name] = value
    data: Any = body.setdefault("data", {})
    if not isinstance(data, dict):
        raise Failure("data must be an object, e.g. {'train': 'file-...'}", Code.USAGE)
    data |= {name: value for name, value in (wish.files or {}).items() if value is not None}
    if columns:
        data["columns"] = {**data.get("columns", {}), **spec.columns(columns)}
    for item in sets:
        spec.assign(body, item)
    folder = file.parent if file is not None else Path()
    # Options are relative to where we are, the paths in a spec file to that file.
    given = {name for name, value in (wish.files or {}).items() if value is not None}
    _upload_set(here, data, "data", {name: Path() if name in given else folder for name in FILES})
    probe: Any = body.get("probe")
    if isinstance(probe, dict) and isinstance(probe.get("data"), dict):
        _upload_set(here, probe["data"], "probe.data", dict.fromkeys(FILES, folder))
    return body


def _upload_set(here: Context, data: dict[str, Any], field: str, bases: dict[str, Path]) -> None:
    """Put the ids of uploaded files in place of paths, which are relative to the base of their set."""
    for name, base in bases.items():
        value = data.get(name)
        if value is not None:
            data[name] = _file_ids(here, base, value, f"{field}.{name}")


def _file_ids(here: Context, base: Path, value: Any, name: str) -> Any:
    """Return the ids of a file, of parallel files by role, or of a corpus in parts."""
    if isinstance(value, dict):
        sides: dict[str, Any] = value
        return {role: _file_id(here, base, side, f"{name}.{role}") for role, side in sides.items()}
    if isinstance(value, list):
        parts: list[Any] = value
        return [_file_id(here, base, part, f"{name}.{at}") for at, part in enumerate(parts)]
    return _file_id(here, base, value, name)


def _file_id(here: Context, base: Path, value: Any, name: str) -> Any:
    """Return a file's id as it is, and that of a local file once it is uploaded."""
    is_path = isinstance(value, str) and not FILE_ID.fullmatch(value)
    return _upload(here, base / value, name) if is_path else value


def _upload(here: Context, path: Path, name: str) -> str:
    if not path.is_file():
        message = f"{name}: {path} is neither a file here nor a file's id (file-...)"
        raise Failure(message, Code.DATA)
    uploaded = here.client.upload(path)
    here.out.say(f"uploaded {path.name} as {uploaded['id']}", style="dim")
    return str(uploaded["id"])
