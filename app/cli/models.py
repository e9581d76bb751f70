"""`attune models`: list, show, card, download and delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.context import of
from app.cli.exits import Code, Failure
from app.cli.output import size, when

app = typer.Typer(help="Finished models.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="A model's id (ft:...).")]


def _metrics(model: dict[str, Any]) -> str:
    found: dict[str, float] = model.get("metrics") or {}
    return ", ".join(f"{name} {value:.4g}" for name, value in list(found.items())[:3])


def _created(model: dict[str, Any]) -> str:
    return when(model.get("created_at") or model.get("created"))


COLUMNS = {
    "id": lambda model: model["id"],
    "task": lambda model: model.get("task"),
    "base": lambda model: model.get("base"),
    "metrics": _metrics,
    "size": lambda model: size(model.get("bytes")),
    "created": _created,
}


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(help="Continue after this id.")] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Base models on the server instead.")
    ] = False,
) -> None:
    """List finished models, newest first."""
    here = of(context)
    if base:
        columns = {"id": lambda model: model["id"], "kind": lambda model: model.get("kind")}
        here.out.listing(here.client.get("/v1/base_models"), columns)
        return
    here.out.listing(here.client.get("/v1/models", limit=limit, after=after), COLUMNS)


@app.command()
def show(context: typer.Context, model_id: ModelId) -> None:
    """Show a model, its metrics and where it comes from."""
    here = of(context)
    model = here.client.get(_path(model_id))
    pairs = {name: get(model) for name, get in COLUMNS.items()}
    here.out.thing(model, pairs | {"job": model.get("job_id")})


@app.command()
def card(context: typer.Context, model_id: ModelId) -> None:
    """Print a model's card (Markdown)."""
    here = of(context)
    here.out.line(here.client.text(f"{_path(model_id)}/card").rstrip("\n"))


@app.command()
def delete(
    context: typer.Context,
    model_id: ModelId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model and its files."""
    import sys

    here = of(context)
    if not yes and not sys.stdin.isatty():
        raise Failure(f"deleting {model_id} cannot be undone; add --yes", Code.USAGE)
    if not yes and not typer.confirm(f"Delete {model_id} for good?", err=True):
        raise Failure("nothing was deleted")
    body = here.client.delete(_path(model_id))
    here.out.thing({"id": model_id} | body, {"id": model_id, "deleted": True})


@app.command()
def download(
    context: typer.Context,
    model_id: ModelId,
    to: Annotated[Path | None, typer.Option(help="Folder; default: named after the model.")] = None,
) -> None:
    """Download a model's files, checked; `transformers` can load the folder."""
    from app.cli.client import encode

    here = of(context)
    folder = to or Path(model_id.replace(":", "_").replace("/", "_"))
    listed = here.client.get(f"{_path(model_id)}/files")
    fetched: list[dict[str, Any]] = []
    for file in listed["data"]:
        name = str(file["name"])
        target = _inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path = f"{_path(model_id)}/files/{encode(name, safe='/')}"
        count, sha256 = here.client.download(path, target)
        if sha256 != file["sha256"]:
            target.unlink()
            raise Failure(f"{name} did not arrive as the server has it; download it again")
        fetched.append({"path": str(target), "bytes": count})
        here.out.say(f"{name}  {size(count)}")
    if here.out.is_json:
        here.out.json({"id": model_id, "folder": str(folder), "files": fetched})
    else:
        here.out.line(str(folder))


def _path(model_id: str) -> str:
    from app.cli.client import encode

    return f"/v1/models/{encode(model_id)}"


def _inside(folder: Path, name: str) -> Path:
    """Refuse a name that leads out of the folder, whoever the server is."""
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise Failure(f"the server names a file outside the folder: {name!r}")
    return target
