"""Vectors taken over from another model: the matrix that it looks its tokens up in.

Of the model's weight files that one tensor is read; the model itself is not built.

Shapes: S the source's vocabulary, V the new one, D the width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from app.adapt.layers.depth import EMBEDDINGS
from app.errors import InvalidSpec
from app.store.weights import weight_files

Matrix = NDArray[np.float32]

# Other tables that have "embed" in their names, and what lies in a module that has.
OTHERS = re.compile(r"position|wpe|token_type|segment|norm|projection|lm_head|embed_out")
SPACE = " "
WORDS_AT_ONCE = 10_000


def input_embeddings(folder: Path, name: str) -> Matrix:
    """Return the matrix (S, D) that a model looks its tokens up in.

    Raises:
        InvalidSpec: it has none.
    """
    tables: dict[str, tuple[int, Path]] = {}
    for path in weight_files(folder, name):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping, though it has keys
                shape = file.get_slice(key).get_shape()
                if len(shape) == 2 and EMBEDDINGS.search(key) and not OTHERS.search(key):  # noqa: PLR2004
                    tables[key] = (shape[0], path)
    if not tables:
        message = f"embeddings: {name} has no input embeddings; name another model"
        raise InvalidSpec(message, param="embeddings", code="model_does_not_fit")
    # Of the largest the first: encoder and decoder share theirs.
    key = min(tables, key=lambda key: (-tables[key][0], key))
    with safe_open(tables[key][1], framework="pt") as file:
        return file.get_tensor(key).float().numpy()


def means_of_pieces(words: Sequence[str], source: Any, matrix_SD: Matrix) -> Matrix:
    """Return vectors (V, D) of words: the mean over the pieces that the source's tokenizer cuts them into.

    Pieces that are unknown to it count for nothing; a word of none but those is all NaN. Many tokenizers
    mark what follows a space: of both readings the one with fewer pieces is taken.
    """
    backend, unknown = source.backend_tokenizer, source.unk_token_id
    vectors_VD = np.full((len(words), matrix_SD.shape[1]), np.nan, dtype=np.float32)
    for start in range(0, len(words), WORDS_AT_ONCE):
        part = words[start : start + WORDS_AT_ONCE]
        spaced, bare = (
            backend.encode_batch([mark + word for word in part], add_special_tokens=False)
            for mark in (SPACE, "")
        )
        for at, readings in enumerate(zip(spaced, bare, strict=True), start=start):
            ids = min((reading.ids for reading in readings), key=len)
            known = [number for number in ids if number != unknown]
            if known:
                vectors_VD[at] = matrix_SD[known].mean(axis=0)
    return vectors_VD
