"""Arrays of many rows in one file: stacked where they have one axis, else joined, with their lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def joined(rows: Sequence[Array]) -> dict[str, Array]:
    """Return the rows as tensors of a safetensors file; there is at least one row."""
    is_flat = rows[0].ndim == 1
    tensors = {
        "scores": np.stack(rows) if is_flat else np.concatenate(rows),
        "lengths": np.array([] if is_flat else [len(row) for row in rows], dtype=np.int64),
    }
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def parted(tensors: Mapping[str, Array]) -> list[Array]:
    """Return the rows again."""
    flat, lengths = tensors["scores"], tensors["lengths"]
    return np.split(flat, np.cumsum(lengths)[:-1]) if lengths.size else list(flat)
