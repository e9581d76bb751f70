"""`attune jobs`: submit, list, show, watch, cancel, events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.context import Context, of
from app.cli.exits import Code
from app.cli.output import duration, when

app = typer.Typer(help="Jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id (job-...).")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds; then exit 124.")]


def _percent(job: dict[str, Any]) -> str | None:
    percent = (job.get("progress") or {}).get("percent")
    return None if percent is None else f"{percent:.0f} %"


COLUMNS = {
    "id": lambda job: job["id"],
    "kind": lambda job: job.get("kind"),
    "state": lambda job: job["state"],
    "phase": lambda job: job.get("phase"),
    "done": _percent,
    "model": lambda job: job.get("model"),
    "created": lambda job: when(job["created_at"]),
}


@app.command()
def submit(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Base model, or a finished one (ft:...).")
    ] = None,
    task: Annotated[str | None, typer.Option(help="E.g. text-classification.")] = None,
    train: Annotated[str | None, typer.Option(help="A file to upload, or a file's id.")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Same; else rows of train are held out.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Same; evaluated once, at the end.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="role=column, e.g. text=review.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any field, e.g. optimization.epochs=3.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="A JSON file; options win over it.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Part of the finished model's id.")] = None,
    watch: Annotated[bool, typer.Option("--watch/--detach", help="Follow it to its end.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a job; its id goes to stdout."""
    from app.cli.submit import Wish, build
    from app.kit.ids import short_id

    here = of(context)
    wish = Wish(model, task, {"train": train, "validation": validation, "test": test}, suffix)
    body = build(here, wish, columns=columns or [], sets=set_ or [], file=spec)
    # A lost answer can be asked for again without a second job.
    job = here.client.post("/v1/jobs", body, headers={"idempotency-key": f"cli-{short_id()}"})
    if not watch:
        here.out.thing(job, {"id": job["id"], "state": job["state"]})
        here.out.say(f"follow it with: attune jobs watch {job['id']}", style="dim")
        return
    here.out.say(f"submitted {job['id']}")
    _follow(here, job["id"], timeout)


@app.command("list")
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(help="Continue after this id.")] = None,
) -> None:
    """List jobs, newest first."""
    here = of(context)
    body = here.client.get("/v1/jobs", limit=limit, after=after, state=state)
    here.out.listing(body, COLUMNS)


@app.command()
def show(context: typer.Context, job_id: JobId) -> None:
    """Show a job: where it stands, or how it ended."""
    from app.cli.report import job_record, show_report

    here = of(context)
    job = here.client.get(_path(job_id))
    here.out.thing(job, job_record(job))
    if not (here.out.is_json or here.out.is_quiet):
        show_report(here.out, job)


@app.command()
def watch(context: typer.Context, job_id: JobId, timeout: Timeout = None) -> None:
    """Follow a job to its end; Ctrl-C leaves it running. Exits 0 only if it succeeds."""
    _follow(of(context), job_id, timeout)


@app.command()
def cancel(context: typer.Context, job_id: JobId) -> None:
    """Cancel a job."""
    here = of(context)
    job = here.client.post(f"{_path(job_id)}/cancel")
    here.out.thing(job, {"id": job["id"], "state": job["state"]})


@app.command()
def events(context: typer.Context, job_id: JobId) -> None:
    """Print a job's whole history, oldest first."""
    here = of(context)
    after, rows = 0, list[dict[str, Any]]()
    while True:
        page = here.client.get(f"{_path(job_id)}/events", after=after, limit=1000)
        rows += page["data"]
        if not page.get("has_more"):
            break
        after = rows[-1]["seq"]
    if here.out.is_json:
        here.out.json({"object": "list", "data": rows, "has_more": False})
        return
    start = rows[0]["created_at"] if rows else 0
    here.out.table(
        ["seq", "after", "level", "type", "message"],
        [
            [e["seq"], duration(e["created_at"] - start), e["level"], e["type"], e["message"]]
            for e in rows
        ],
    )


def _path(job_id: str) -> str:
    from app.cli.client import encode

    return f"/v1/jobs/{encode(job_id)}"


def _follow(here: Context, job_id: str, timeout_s: float | None) -> None:
    from app.cli.watch import follow

    job = follow(here, job_id, timeout_s)
    raise typer.Exit(Code.OK if job["state"] == "succeeded" else Code.ERROR)
