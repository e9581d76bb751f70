"""`attune check`: what would a job make of this data? A file is read here, a spec by the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.context import Context, of
from app.cli.exits import Code, Failure
from app.cli.output import duration, size

if TYPE_CHECKING:
    from app.adapt.reader import Reader


# The rest is in --json; these are what people tune.
SHOWN = (
    "optimizer", "learning_rate", "schedule", "warmup", "epochs", "max_steps", "batch_size",
    "max_length",
)  # fmt: skip


def check(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="A data file; checked here, nothing is sent.")
    ] = None,
    task: Annotated[str, typer.Option(help="What the data is for.")] = "text-classification",
    columns: Annotated[
        list[str] | None, typer.Option(help="role=column, e.g. text=review.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="A job's spec; checked by the server.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any field of the spec or the task.")
    ] = None,
) -> None:
    """Check a data file here, or a whole job on the server. Exits 3 when data cannot be used."""
    here = of(context)
    if (file is None) == (spec is None):
        raise Failure("give a data file, or --spec for a whole job", Code.USAGE)
    if file is not None:
        _show_data(here, check_file(file, task, columns or [], set_ or []))
        return
    from app.cli.submit import Wish, build

    body = build(here, Wish(), columns=columns or [], sets=set_ or [], file=spec)
    answer = here.client.post("/v1/jobs/check", body)
    if here.out.is_json:
        here.out.json(answer)
    else:
        show_check(here, answer)


def check_file(path: Path, task: str, columns: list[str], sets: list[str]) -> dict[str, Any]:
    """Read a file as a job of this task would, and return its report.

    Raises:
        Failure: no such file, format or task.
        InvalidData: the data cannot be used; the first problems by row are in its details.
    """
    from app.adapt.dataset import name_columns, resolve_columns
    from app.adapt.plugins import TASKS
    from app.adapt.reader import Problems
    from app.cli import spec

    if task not in TASKS.kinds:
        raise Failure(f"no task {task!r}; there are: {', '.join(TASKS.kinds)}", Code.USAGE)
    fields: dict[str, Any] = {}
    for item in sets:
        spec.assign(fields, item)
    config = TASKS[task].model_validate({"kind": task, **fields})
    problems = Problems(path.name)
    rows = list(_reader_for(path).read(path, problems))
    found = list(dict.fromkeys(name for row in rows[:1000] for name in row.values))
    mapping = resolve_columns(config, found, spec.columns(columns), path.name)
    examples = config.parse(rows, mapping, problems)
    problems.raise_if_any()
    fitted = config.fit(examples, path.name)
    usable = fitted.check(examples, problems)
    name_columns(problems, mapping)
    problems.raise_if_any()
    report = fitted.report(len(rows), usable)
    return {
        "file": str(path),
        "task": fitted.model_dump(mode="json"),
        "columns": mapping,
        "rows": report.rows,
        "usable": report.usable,
        "warnings": [*report.repairs, *report.warnings],
        "statistics": report.statistics,
    }


def show_check(here: Context, answer: dict[str, Any]) -> None:
    """Print the server's dry run: what is resolved, what the data looks like, what it will cost."""
    out = here.out
    resolved: dict[str, Any] = answer["spec"]
    optimization: dict[str, Any] = resolved.get("optimization", {})
    out.record(
        {
            "model": resolved.get("model"),
            "task": (resolved.get("task") or {}).get("kind"),
            "method": (resolved.get("method") or {}).get("kind"),
            **{name: value for name, value in optimization.items() if name in SHOWN},
            **{name: _brief(value) for name, value in answer.get("data", {}).items()},
            **_estimate(answer.get("estimate", {})),
        }
    )
    for warning in answer.get("warnings", []):
        out.say(f"warning: {warning}", style="yellow")


def _show_data(here: Context, report: dict[str, Any]) -> None:
    if here.out.is_json:
        here.out.json(report)
        return
    shown = {k: v for k, v in report.items() if k not in {"task", "statistics", "warnings"}}
    statistics = {name: _brief(value) for name, value in report["statistics"].items()}
    here.out.record({**shown, **statistics})
    for warning in report["warnings"]:
        here.out.say(f"warning: {warning}", style="yellow")


def _estimate(found: dict[str, Any]) -> dict[str, Any]:
    """Return what a job will cost in words; how it was estimated is for --json."""
    return {
        "steps": found.get("steps"),
        "estimated time": duration(found["seconds"]) if "seconds" in found else None,
        "estimated memory": size(found["memory_bytes"]) if "memory_bytes" in found else None,
        "device": found.get("device"),
    }


def _brief(value: Any) -> Any:
    """Keep a record's lines readable: a set of rows by its counts, long collections by their length."""
    if isinstance(value, dict) and "usable" in value:
        labels = (value.get("statistics") or {}).get("labels")
        counted = f", {len(labels)} labels" if isinstance(labels, dict) else ""
        return f"{value['usable']} of {value['rows']} rows usable{counted}"
    if isinstance(value, dict | list) and len(str(value)) > 100:  # noqa: PLR2004
        return f"{len(value)} entries"
    return value


def _reader_for(path: Path) -> Reader:
    from app.adapt.plugins import READERS

    if not path.is_file():
        raise Failure(f"there is no file {path}", Code.DATA)
    suffix = path.suffix.lower()
    for reader in READERS:
        if suffix in reader.extensions or suffix.removeprefix(".") in reader.extensions:
            return reader.model_validate({"kind": reader.name()})
    known = sorted(extension for reader in READERS for extension in reader.extensions)
    raise Failure(
        f"no reader for {suffix or path.name!r}; there are: {', '.join(known)}", Code.DATA
    )
