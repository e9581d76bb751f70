"""Full fine-tuning with smaller steps further down."""

from __future__ import annotations

from typing import Literal

from app.adapt.method import LayerwiseMethod


class LayerwiseLr(LayerwiseMethod):
    """Train all weights; each layer's rate is a share of that above it.

    Source: Howard & Ruder 2018 (arXiv 1801.06146, 3.2), "discriminative fine-tuning". For transformers,
    Clark et al. 2020 (arXiv 2003.10555) take 0.8 to 0.9 a layer of ELECTRA; 0.9 to 0.95 is usual.
    """

    kind: Literal["layerwise_lr"] = "layerwise_lr"
