"""`attune keys`: make, list and revoke API keys."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from app.cli.context import of
from app.cli.exits import Code, Failure
from app.cli.output import when

app = typer.Typer(help="API keys.", no_args_is_help=True)

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
COLUMNS = {
    "id": lambda key: key["id"],
    "name": lambda key: key["name"],
    "prefix": lambda key: key["prefix"],
    "scopes": lambda key: ",".join(key["scopes"]),
    "expires": lambda key: when(key["expires_at"]),
    "state": lambda key: "revoked" if key["revoked_at"] else "live",
    "last used": lambda key: when(key["last_used_at"]),
}


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What the key is for; shown in lists.")] = "cli",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A scope or preset: all, read-only, predict; repeatable."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Life time, e.g. 90d, 12h.")] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="Operators: make it straight in the database, for this tenant."),
    ] = None,
) -> None:
    """Make a key. Its secret is printed this once, to stdout."""
    here = of(context)
    scopes = scope or ["all"]
    expires_in_s = None if expires is None else _seconds(expires)
    if tenant is not None:
        from app.cli.local import create_tenant_key

        key = create_tenant_key(tenant, name, scopes, expires_in_s)
    else:
        body: dict[str, Any] = {"name": name, "scopes": scopes, "expires_in_s": expires_in_s}
        key = here.client.post("/v1/keys", body)
    if here.out.is_json:
        here.out.json(key)
    else:
        here.out.say(f"{key['id']} ({key['name']}); keep it safe, it is not shown again:")
        here.out.line(key["key"])


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(help="Continue after this id.")] = None,
) -> None:
    """List the keys of the caller's tenant, newest first."""
    here = of(context)
    here.out.listing(here.client.get("/v1/keys", limit=limit, after=after), COLUMNS)


@app.command()
def revoke(context: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key for good."""
    from app.cli.client import encode

    here = of(context)
    key = here.client.delete(f"/v1/keys/{encode(key_id)}")
    here.out.thing(key, {name: get(key) for name, get in COLUMNS.items()})


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise Failure(f"--expires is a number and s, m, h or d, e.g. 90d; not {text!r}", Code.USAGE)
    return float(match[1]) * UNITS_S[match[2]]
