"""What the adapted model has to beat, on the same held-out rows: the untouched base and a linear probe.

Both start from the source anew, after the training, so that nobody waits for them before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from app.adapt.network import new_parameters
from app.adapt.outputs import Encoded
from app.adapt.plugins import METHODS
from app.errors import InvalidSpec
from workers.recipes.probe import probe
from workers.training.evaluate import Stage, evaluate

if TYPE_CHECKING:
    from app.adapt.method import FeatureMethod

PROBE_ROWS = 2_000  # more rows would make it better, and later
HELD_OUT = ("validation", "test")


def untouched(
    stage: Stage, folder: Path, sets: dict[str, list[Encoded]], max_tokens: int
) -> dict[str, Any]:
    """Return the figures of the source as it is; empty where it has no head for this task."""
    network = stage.task.network().load(stage.task, folder)
    if new_parameters(network):
        return {}
    return held_out_figures(replace(stage, network=network.to(stage.device)), sets, max_tokens)


def linear_probe(
    stage: Stage,
    folders: Sequence[Path],
    sets: dict[str, list[Encoded]],
    max_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """Return the figures of a linear head on the sources' frozen features; empty for other tasks."""
    method = cast("FeatureMethod", METHODS["linear_probe"].model_validate({}))
    half: Any = stage.task.network()
    try:
        network = half.load_probe(stage.task, folders, method)
    except InvalidSpec:
        return {}
    probed = replace(stage, network=network.to(stage.device))
    train = _some(sets["train"], seed)
    facts = probe(probed, method, train, sets["validation"], max_tokens)
    return facts | held_out_figures(probed, sets, max_tokens)


def held_out_figures(
    stage: Stage, sets: dict[str, list[Encoded]], max_tokens: int
) -> dict[str, Any]:
    """Return metrics and intervals of the held-out sets that there are."""
    figures: dict[str, Any] = {}
    for name in HELD_OUT:
        if sets[name]:
            result = evaluate(stage, sets[name], max_tokens, intervals=True)
            figures[name] = {"metrics": result.metrics, "intervals": result.intervals}
    return figures


def _some(items: Sequence[Encoded], seed: int) -> list[Encoded]:
    if len(items) <= PROBE_ROWS:
        return list(items)
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(len(items))[:PROBE_ROWS]
    return [items[i] for i in sorted(chosen.tolist())]
