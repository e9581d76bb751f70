"""Folders that may be computed again, by name: made once, checked when they are used, published whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.kit.canonical import canonical_json
from app.store.durable import publish_folder, remove_folder, temporary_folder
from app.store.manifest import CorruptFolder, verify_folder, write_manifest


def key_of(kind: str, depends_on: dict[str, Any]) -> str:
    """Return the name of what depends on these values and nothing else."""
    content = canonical_json({"kind": kind, **depends_on})
    return f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:40]}"


def find(folder: Path, key: str) -> Path | None:
    """Return the folder of a key, None where there is none that is whole."""
    final = folder / key
    if not final.is_dir():
        return None
    try:
        verify_folder(final)
    except CorruptFolder:
        remove_folder(final)
        return None
    os.utime(final)  # the least recently used go first
    return final


def keep(
    folder: Path, key: str, fill: Callable[[Path], None], kind: str, facts: dict[str, Any]
) -> Path:
    """Fill the folder of a key. Whoever is quicker with the same one wins."""
    final = folder / key
    temporary = temporary_folder(final)
    try:
        fill(temporary)
        write_manifest(temporary, kind, facts)
        publish_folder(temporary, final)
    except OSError:
        if not final.is_dir():
            raise
    finally:
        remove_folder(temporary)
    return final


def cached(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of a key of `key_of`; `make` fills it where there is none that is whole."""
    return find(folder, key) or keep(folder, key, make, key.partition("-")[0], {})
