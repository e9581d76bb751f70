"""How sure a figure is: percentile bootstrap over the rows it was measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 1_000
LEVEL = 0.95


def bootstrap(
    rows: int,
    value: Callable[[NDArray[np.int64]], float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of a figure; `value` computes it from the indices of drawn rows.

    Rows are drawn with replacement, as many as there are. Source: Efron & Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 13 (percentile intervals).
    """
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    values = [value(generator.integers(0, rows, rows)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
