"""`attune evaluate` and `attune batch-predict`: a file and a model, followed to the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.context import Context, of
from app.cli.exits import Code, Failure
from app.cli.output import size

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="ft:..., ckpt-... or a base model.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A file to upload, or a file's id.")]
Task = Annotated[str | None, typer.Option(help="Of a base model: what it does as it is.")]
Columns = Annotated[list[str] | None, typer.Option(help="role=column, e.g. text=review.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Any field, e.g. max_batch_tokens=8192.")
]
Skip = Annotated[bool, typer.Option("--skip-bad-rows", help="Go on without unusable rows.")]
Watch = Annotated[bool, typer.Option("--watch/--detach", help="Follow it to its end.")]
Timeout = Annotated[float | None, typer.Option(min=0, help="Seconds; then exit 124.")]


def evaluate(
    context: typer.Context, model: ModelId, file: File, task: Task = None, columns: Columns = None,
    set_: Sets = None, skip: Skip = False, watch: Watch = True, timeout: Timeout = None,
) -> None:  # fmt: skip
    """Judge a model by a labelled file: figures with their intervals, and the rows it does worst."""
    here = of(context)
    sets = ["kind=evaluate", *(["data.on_bad_rows=skip"] if skip else []), *(set_ or [])]
    job = _submit(here, {"test": file}, model, task, [columns or [], sets])
    if watch:
        _follow(here, job, timeout)
    else:
        _leave(here, job)


def batch_predict(
    context: typer.Context, model: ModelId, file: File,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the answers go; else their file's id.")
    ] = None,
    task: Task = None, columns: Columns = None, set_: Sets = None, skip: Skip = False,
    watch: Watch = True, timeout: Timeout = None,
) -> None:  # fmt: skip
    """Answer every row of a file; one JSON line for each, in their order."""
    here = of(context)
    if output is not None and not watch:
        raise Failure("-o needs the end of the job: leave out --detach", Code.USAGE)
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise Failure(f"cannot write {output}: not a file in a folder that is there", Code.USAGE)
    sets = ["kind=batch_predict", *(["data.on_bad_rows=skip"] if skip else []), *(set_ or [])]
    job = _submit(here, {"inputs": file}, model, task, [columns or [], sets])
    if not watch:
        _leave(here, job)
        return
    done = _follow(here, job, timeout)
    if output is not None:
        _download(here, done, output)


def _submit(
    here: Context, files: dict[str, str | None], model: str, task: str | None,
    options: list[list[str]],
) -> dict[str, Any]:  # fmt: skip
    """Submit the job, with the file uploaded."""
    from app.cli.submit import Wish, build
    from app.kit.ids import short_id

    columns, sets = options
    body = build(here, Wish(model, task, files), columns=columns, sets=sets, file=None)
    # A repeated request must not make a second job.
    return here.client.post("/v1/jobs", body, headers={"idempotency-key": f"cli-{short_id()}"})


def _leave(here: Context, job: dict[str, Any]) -> None:
    here.out.thing(job, {"id": job["id"], "state": job["state"]})
    here.out.say(f"follow it with: attune jobs watch {job['id']}", style="dim")


def _follow(here: Context, job: dict[str, Any], timeout_s: float | None) -> dict[str, Any]:
    from app.cli.watch import follow

    here.out.say(f"submitted {job['id']}")
    done = follow(here, job["id"], timeout_s)
    if done["state"] != "succeeded":
        raise typer.Exit(Code.ERROR)
    return done


def _download(here: Context, job: dict[str, Any], output: Path) -> None:
    from app.cli.client import encode

    (file_id,) = job["result_files"]
    count, _ = here.client.download(f"/v1/files/{encode(file_id)}/content", output)
    here.out.say(f"wrote {output} ({size(count)})", style="bold green")
