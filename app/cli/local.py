"""What an operator does on the server's machine without HTTP: migrate, and make keys."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from app.cli.credentials import Credentials, load, save
from app.cli.exits import Code, Failure
from app.kit.process import python

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.kit.db import Database
    from app.settings import Settings

FIRST_TENANT = "default"


def load_settings() -> Settings:
    """Return the settings, or say which variable is wrong."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = "ATTUNE_" + "_".join(str(part) for part in problem["loc"]).upper()
        where = f"{name}: " if problem["loc"] else ""
        raise Failure(f"{where}{problem['msg']}", Code.USAGE) from None


def migrate(env: Mapping[str, str] | None = None) -> None:
    """Bring the database to the newest schema, in a process: app never imports migrations."""
    done = subprocess.run(
        python("migrations"), env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Failure(f"the database could not be migrated: {lines[-1] if lines else '?'}")


def ensure_key(settings: Settings, database: Database, url: str) -> tuple[Credentials, bool]:
    """Return working credentials for this machine, and whether the key was made just now.

    The saved key is kept while it works; a lost file or a fresh database gets a new one.
    """
    from app.auth.service import authenticate, create_key, ensure_tenant
    from app.errors import Unauthenticated

    saved = load(settings.home)
    with database.transaction() as session:
        tenant = ensure_tenant(session, FIRST_TENANT)
        is_new = saved is None or saved.key is None
        if saved is not None and saved.key is not None:
            try:
                authenticate(session, settings.pepper, saved.key)
            except Unauthenticated:
                is_new = True
        key = saved.key if saved is not None and not is_new else None
        if key is None:
            new = create_key(session, settings.pepper, tenant.id, name="attune up", scopes=["all"])
            key = new.secret
    credentials = Credentials(url, key)
    if saved != credentials:
        save(settings.home, credentials)
    return credentials, is_new


def create_tenant_key(
    tenant: str, name: str, scopes: list[str], expires_in_s: float | None
) -> dict[str, Any]:
    """Make a key for a tenant, made if need be, straight in the database."""
    from app.auth.schemas import KeyOut, NewKeyOut
    from app.auth.service import create_key, ensure_tenant
    from app.kit.db import Database

    settings = load_settings()
    database = Database(settings.resolved_database_url)
    try:
        with database.transaction() as session:
            owner = ensure_tenant(session, tenant)
            new = create_key(
                session, settings.pepper, owner.id, name=name, scopes=scopes,
                expires_in_s=expires_in_s,
            )  # fmt: skip
    finally:
        database.dispose()
    return NewKeyOut(**KeyOut.of(new.row).model_dump(), key=new.secret).model_dump()
