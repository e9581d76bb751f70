"""What a folder of the store is and what exactly is in it: `manifest.json`, with every file's SHA-256.

Checkpoints and models both carry one. The digest of the manifest stands in the database, so that a
folder is trusted only when the chain from row to manifest to bytes holds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.errors import AttuneError
from app.kit.schema import Frozen
from app.store.durable import sha256_of, write_bytes

NAME = "manifest.json"


class CorruptFolder(AttuneError):
    """A stored folder does not match its manifest."""

    code = "corrupt_folder"


class FileEntry(Frozen):
    """Size and digest of one file."""

    bytes: int
    sha256: str


class Manifest(Frozen):
    """The files of a folder by relative path, and free-form facts about them (spec, versions, metrics)."""

    format: int = 1
    kind: str
    files: dict[str, FileEntry]
    facts: dict[str, Any] = {}

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.bytes for entry in self.files.values())


def write_manifest(folder: Path, kind: str, facts: dict[str, Any]) -> tuple[Manifest, str]:
    """Digest every file of `folder`, write the manifest, return it with its own SHA-256."""
    files = {
        str(path.relative_to(folder)): FileEntry(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }
    manifest = Manifest(kind=kind, files=files, facts=facts)
    content = json.dumps(manifest.model_dump(), indent=2, sort_keys=True).encode()
    write_bytes(folder / NAME, content)
    return manifest, hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path, sha256: str | None = None) -> Manifest:
    """Read a folder's manifest, checking its digest when one is given.

    Raises:
        CorruptFolder: missing, unreadable, or not the manifest that was recorded.
    """
    try:
        content = (folder / NAME).read_bytes()
    except OSError as error:
        message = f"{folder.name}: the manifest cannot be read"
        raise CorruptFolder(message) from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        message = f"{folder.name}: the manifest is not the one that was recorded"
        raise CorruptFolder(message)
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        message = f"{folder.name}: the manifest is not valid"
        raise CorruptFolder(message) from error


def verify_folder(folder: Path, sha256: str | None = None) -> Manifest:
    """Check every file of the folder against its manifest and return the manifest.

    Raises:
        CorruptFolder: naming the first file that is missing, cut off or changed.
    """
    manifest = read_manifest(folder, sha256)
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            message = f"{folder.name}: {name} is missing"
            raise CorruptFolder(message)
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            message = f"{folder.name}: {name} does not match its digest"
            raise CorruptFolder(message)
    return manifest
