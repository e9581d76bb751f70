"""A teacher's answers on disk: computed once, used again by other seeds, students and resumed runs.

An entry is a folder of one safetensors file and a manifest, named by the SHA-256 of all that the answers
depend on: the teacher's weights, its precision, and every token that it read. What does not match its
manifest is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from app.adapt.outputs import Encoded
from app.store.durable import remove_folder
from workers.recipes import cache
from workers.recipes.ragged import joined, parted

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


def kept(
    folder: Path | None, key: str, make: Callable[[], list[Scores]]
) -> tuple[list[Scores], bool]:
    """Return the answers of a key, and whether `folder` had them; else `make` makes them, to be kept."""
    found = None if folder is None else _read(folder, key)
    if found is not None:
        return found, True
    made = make()
    if folder is not None:

        def fill(entry: Path) -> None:
            save_file(joined(made), entry / FILE)

        cache.keep(folder, key, fill, KIND, {"rows": len(made)})
    return made, False


def _read(folder: Path, key: str) -> list[Scores] | None:
    try:
        entry = cache.find(folder, key)
        return None if entry is None else parted(load_file(entry / FILE))
    except OSError:
        remove_folder(folder / key)
        return None
