"""`attune files`: upload, list, show and delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.context import Context, of
from app.cli.output import size, when

app = typer.Typer(help="Uploaded data.", no_args_is_help=True)

FileId = Annotated[str, typer.Argument(metavar="ID", help="A file's id (file-...).")]
COLUMNS = {
    "id": lambda file: file["id"],
    "filename": lambda file: file["filename"],
    "size": lambda file: size(file["bytes"]),
    "rows": lambda file: (file.get("summary") or {}).get("rows"),
    "status": lambda file: file.get("status"),
    "created": lambda file: when(file["created_at"]),
}


@app.command()
def upload(
    context: typer.Context,
    path: Annotated[list[Path], typer.Argument(help="JSONL, CSV, Parquet, ...")],
    purpose: Annotated[str, typer.Option()] = "fine-tune",
) -> None:
    """Upload files; the server checks and summarizes each."""
    here = of(context)
    for one in path:
        show_file(here, here.client.upload(one, purpose))


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(help="Continue after this id.")] = None,
) -> None:
    """List files, newest first."""
    here = of(context)
    here.out.listing(here.client.get("/v1/files", limit=limit, after=after), COLUMNS)


@app.command()
def show(context: typer.Context, file_id: FileId) -> None:
    """Show a file and what is in it."""
    from app.cli.client import encode

    here = of(context)
    show_file(here, here.client.get(f"/v1/files/{encode(file_id)}"))


@app.command()
def delete(context: typer.Context, file_id: FileId) -> None:
    """Delete a file; refused while an unfinished job needs it."""
    from app.cli.client import encode

    here = of(context)
    body = here.client.delete(f"/v1/files/{encode(file_id)}")
    here.out.thing({"id": file_id} | body, {"id": file_id, "deleted": True})


def show_file(here: Context, file: dict[str, Any]) -> None:
    """Print a file's record with its columns and problems."""
    summary: dict[str, Any] = file.get("summary") or {}
    pairs = {name: get(file) for name, get in COLUMNS.items()}
    pairs["columns"] = ", ".join(str(column["name"]) for column in summary.get("columns", []))
    problems = summary.get("problems") or {}
    if isinstance(problems, dict) and problems.get("count"):
        pairs["problems"] = problems["count"]
    here.out.thing(file, pairs)
    if not (here.out.is_json or here.out.is_quiet):
        from app.cli.output import problems_of

        for line in problems_of({"details": {"problems": problems}}):
            here.out.say(f"  {line}", style="yellow")
