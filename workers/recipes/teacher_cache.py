"""A teacher's answers on disk: computed once, used again by other seeds, students and resumed runs.

An entry is a folder of one safetensors file and a manifest, named by the SHA-256 of all that the answers
depend on: the teacher's weights, its precision, and every token that it read. What does not match its
manifest is made anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from app.adapt.outputs import Encoded
from app.store.durable import publish_folder, remove_folder, temporary_folder
from app.store.manifest import CorruptFolder, verify_folder, write_manifest

if TYPE_CHECKING:
    from app.adapt.task import Scores

KIND = "teacher_answers"
FILE = "answers.safetensors"


def key_of(digest: str, items: Sequence[Encoded]) -> str:
    """Return the name of the answers of the teacher with this digest to these rows."""
    made = hashlib.sha256(digest.encode())
    for item in items:
        for ids in (item.input_ids, item.token_type_ids or (), *item.others):
            row = np.asarray(ids, dtype=np.int64)
            made.update(len(row).to_bytes(8, "little"))
            made.update(row.tobytes())
    return made.hexdigest()[:40]


def read(folder: Path, key: str) -> list[Scores] | None:
    """Return the answers of a key, None where there are none that are whole."""
    entry = folder / key
    if not entry.is_dir():
        return None
    try:
        verify_folder(entry)
        tensors = load_file(entry / FILE)
    except (CorruptFolder, OSError):
        remove_folder(entry)
        return None
    os.utime(entry)  # the least recently used go first
    flat, lengths = tensors["scores"], tensors["lengths"]
    if not lengths.size:
        return list(flat)
    return np.split(flat, np.cumsum(lengths)[:-1])


def write(folder: Path, key: str, scores: Sequence[Scores]) -> None:
    """Keep the answers; whoever was quicker with the same ones wins."""
    is_flat = scores[0].ndim == 1
    tensors = {
        "scores": np.stack(scores) if is_flat else np.concatenate(scores),
        "lengths": np.array([] if is_flat else [len(row) for row in scores], dtype=np.int64),
    }
    final = folder / key
    temporary = temporary_folder(final)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary / FILE
    )
    write_manifest(temporary, KIND, {"rows": len(scores)})
    try:
        publish_folder(temporary, final)
    except OSError:
        remove_folder(temporary)
        if not final.is_dir():
            raise
