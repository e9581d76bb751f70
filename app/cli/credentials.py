"""Where the CLI finds the server and its key: options, the environment, the file of `attune up`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from app.cli.exits import Code, Failure

FILE = "credentials.json"
DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Credentials:
    """A server's address and the key for it; `key` None: ask without one."""

    url: str
    key: str | None

    def __repr__(self) -> str:
        return f"Credentials(url={self.url!r}, key={'***' if self.key else None})"


def home() -> Path:
    """Return the home folder that settings resolve to."""
    from app.settings import Settings

    return Settings().home


def resolve(url: str | None, key: str | None) -> Credentials:
    """Fill in what was not given: ATTUNE_URL and ATTUNE_API_KEY, then the file under home.

    The file's key goes only to the file's own server: another address does not get it.
    """
    url = url or os.environ.get("ATTUNE_URL")
    key = key or os.environ.get("ATTUNE_API_KEY")
    saved = None if url and key else load(home())
    if url is None:
        url = saved.url if saved else DEFAULT_URL
    if key is None and saved is not None and saved.url.rstrip("/") == url.rstrip("/"):
        key = saved.key
    if not url.startswith(("http://", "https://")):
        raise Failure(f"--url must start with http:// or https://, not {url!r}", Code.USAGE)
    return Credentials(url.rstrip("/"), key)


def load(folder: Path) -> Credentials | None:
    """Return what `attune up` wrote; None when there is nothing usable."""
    try:
        body = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Credentials(str(body["url"]), str(body["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(folder: Path, credentials: Credentials) -> None:
    """Write the file so that only this user can ever read it, also while it is being written."""
    path = folder / FILE
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"url": credentials.url, "key": credentials.key}, file)
    fresh.replace(path)
