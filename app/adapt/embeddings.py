"""A table of word vectors made narrower. Torch-free: the arithmetic is numpy's, in double precision.

Shapes: V entries, H their width, D the width wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def reduce(matrix_VH: NDArray[Any], size: int, *, skip: int = 0) -> NDArray[np.float32]:
    """Return the entries (V, D) by their principal components.

    (M - c) U, with c the mean entry and U the eigenvectors of the covariance (M - c)^T (M - c) / V of the
    largest eigenvalues: `size` of them after the first `skip`, which say what all entries have in common
    (Mu & Viswanath 2018, arXiv 1702.01417). The sign of a component is free, and set so that its largest
    weight is positive.

    Raises:
        ValueError: fewer than `skip` + `size` components.
    """
    width = matrix_VH.shape[1]
    if size < 1 or skip < 0 or skip + size > width:
        message = f"{size} components after the first {skip} of {width}"
        raise ValueError(message)
    entries_VH = matrix_VH.astype(np.float64)
    entries_VH -= entries_VH.mean(axis=0)
    _, ascending_HH = np.linalg.eigh(entries_VH.T @ entries_VH / len(entries_VH))
    axes_HD = ascending_HH[:, ::-1][:, skip : skip + size]
    largest_D = np.abs(axes_HD).argmax(axis=0)
    axes_HD = axes_HD * np.sign(axes_HD[largest_D, np.arange(size)])
    return (entries_VH @ axes_HD).astype(np.float32)
