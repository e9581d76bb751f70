"""The work of a job in parts, each of which is safe from a crash before the next one begins.

A part is a checkpoint like any other: a folder with a manifest, recorded by the supervisor. Its step is
the number of rows that are behind it, and the part after it begins there.

    step-00000512/    what the part holds, manifest.json {"facts": {"first": 256, "step": 512, ...}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.store.durable import (
    CHUNK_BYTES,
    publish_folder,
    remove_folder,
    sync_file,
    temporary_folder,
)
from app.store.manifest import CorruptFolder, verify_folder, write_manifest
from workers.protocol import CheckpointEvent, CheckpointRef, QuarantineEvent
from workers.training.report import Report

KIND = "part"
LINES = "part.jsonl"


@dataclass(frozen=True)
class Part:
    """The rows from `first` up to but not including `step`; `facts` are what else is known of them."""

    folder: Path
    first: int
    step: int
    facts: dict[str, Any]


def restore(candidates: Sequence[CheckpointRef], report: Report) -> list[Part]:
    """Return the parts that follow each other from the first row on; damaged ones are reported."""
    intact: dict[int, Part] = {}
    for candidate in candidates:
        try:
            manifest = verify_folder(candidate.folder, candidate.manifest_sha256)
        except CorruptFolder as error:
            report.emit(QuarantineEvent(checkpoint_id=candidate.id, reason=error.message))
            continue
        facts = manifest.facts
        intact[facts["first"]] = Part(candidate.folder, facts["first"], facts["step"], facts)
    parts: list[Part] = []
    while (part := intact.get(parts[-1].step if parts else 0)) is not None:
        parts.append(part)
    return parts


def save(
    folder: Path, rows: range, fill: Callable[[Path], None], facts: dict[str, Any], report: Report
) -> Part:
    """Let `fill` write a part of these rows and tell the supervisor; it is durable when this returns."""
    final = folder / f"step-{rows.stop:08d}"
    remove_folder(final)
    temporary = temporary_folder(final)
    fill(temporary)
    facts = facts | {"first": rows.start, "step": rows.stop}
    manifest, digest = write_manifest(temporary, KIND, facts)
    publish_folder(temporary, final)
    report.emit(
        CheckpointEvent(
            step=rows.stop, folder=final, manifest_sha256=digest, bytes=manifest.total_bytes
        )
    )
    return Part(final, rows.start, rows.stop, facts)


def join(parts: Sequence[Part], path: Path) -> tuple[int, str]:
    """Write all parts behind each other into one durable file; return its bytes and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as output:
        for part in parts:
            with (part.folder / LINES).open("rb") as lines:
                while chunk := lines.read(CHUNK_BYTES):
                    output.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
    sync_file(path)
    return size, digest.hexdigest()


def line_of(fields: dict[str, Any]) -> str:
    """Return one line of JSON.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, default=str) + "\n"
