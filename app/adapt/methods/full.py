"""Full fine-tuning: every weight trains."""

from __future__ import annotations

from typing import Literal

from app.adapt.method import Method


class Full(Method):
    """Train all weights; biases and normalization weights are not decayed."""

    kind: Literal["full"] = "full"
