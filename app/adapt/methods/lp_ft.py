"""Linear probing, then full fine-tuning: a head that fits already leaves good features alone."""

from __future__ import annotations

from typing import Literal

from app.adapt.method import FeatureMethod, full_learning_rate


class LpFt(FeatureMethod):
    """Fit the head on frozen features, then train all weights at half the usual rate.

    Source: Kumar et al. 2022 (arXiv 2202.10054).
    """

    kind: Literal["lp_ft"] = "lp_ft"

    def learning_rate(self, num_parameters: int, full: float | None = None) -> float:
        """Half of what `full` takes."""
        return (full or full_learning_rate(num_parameters)) / 2
