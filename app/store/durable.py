"""Files that survive a power cut: written beside, flushed, synced, renamed, and the parent synced.

The order is the point (see `docs/adr/`): a reader sees either nothing or the whole thing, never a part.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path

CHUNK_BYTES = 1024 * 1024


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file that some library wrote durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` with `content` atomically."""
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_folder(beside: Path) -> Path:
    """Make a hidden folder in `beside`'s parent, to be filled and then given to `publish_folder`."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    folder = beside.parent / f".tmp-{secrets.token_hex(8)}"
    folder.mkdir()
    return folder


def publish_folder(temporary: Path, final: Path) -> None:
    """Sync everything in `temporary` and rename it to `final`, which must not exist."""
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            sync_file(path)
        elif path.is_dir():
            sync_folder(path)
    sync_folder(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(final)
    sync_folder(final.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder and all in it; it may be gone already."""
    shutil.rmtree(folder, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
