"""Batches of similar lengths within a token budget (ours) against random batches, padded to the longest of
each batch or all to one length. Same model, rows, epochs, rate, batch size and seeds.

    python -m tests.benchmarks.batching --data sst2 offensive --repeat 3
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import torch.nn.functional as F  # noqa: N812

from app.adapt.outputs import Batch
from app.adapt.tasks.text_classification.model import ClassificationNetwork
from tests.benchmarks import in_process
from tests.benchmarks.in_process import Data
from tests.benchmarks.plans import RandomPlan
from workers.training.loop import Loop

LENGTH = 128
SETS = ["banking", "sst2", "offensive"]


@dataclass(frozen=True)
class Outcome:
    """Rows a second in the steps, and the accuracy on the dev set."""

    rows_per_s: float
    accuracy: float


def main() -> None:
    """Run all three in turns and print a table."""
    options = in_process.make_options(__doc__, SETS, rows=600, dev_rows=300).parse_args()
    in_process.quiet()
    collate = ClassificationNetwork.collate

    def padded(self: Any, *arguments: Any) -> Batch:
        return to_length(collate(self, *arguments))

    random = partial(patch.object, Loop, "plan_type", RandomPlan)
    fixed = partial(patch.object, ClassificationNetwork, "collate", padded)
    ways = {
        "ours: buckets, budget": (),
        "random, longest of batch": (random,),
        f"random, all to {LENGTH}": (random, fixed),
    }
    for name in options.data:
        data = in_process.read(name, options)
        print(in_process.heading(data, options))
        runs = {way: partial(run, data, options, seams) for way, seams in ways.items()}
        report(in_process.in_turns(runs, options.repeat))


def run(data: Data, options: Any, seams: tuple[Callable[[], Any], ...], seed: int) -> Outcome:
    """Train once."""
    spec = in_process.make_spec(data, options, seed, optimization={"max_length": LENGTH})
    with contextlib.ExitStack() as stack:
        for seam in seams:
            stack.enter_context(seam())
        found = in_process.run_timed(spec, data, options)
    count = len(data.train) * options.epochs
    return Outcome(count / found.steps_s, found.done.metrics["validation/accuracy"])


def to_length(batch: Batch) -> Batch:
    """Return the batch padded to `LENGTH`; what is filled in is masked, so its ids do not matter."""
    missing = LENGTH - batch.input_ids_BT.shape[1]

    def wider(tensor: Any) -> Any:
        return None if tensor is None else F.pad(tensor, (0, missing))

    return Batch(
        input_ids_BT=wider(batch.input_ids_BT),
        mask_BT=wider(batch.mask_BT),
        token_type_ids_BT=wider(batch.token_type_ids_BT),
        target=batch.target,
        others=batch.others,
    )


def report(found: dict[str, list[Outcome]]) -> None:
    """Print medians of the speed, ratios of neighbours, and the accuracy with its spread over seeds."""
    ours, *_ = found.values()
    for name, side in found.items():
        speeds = [outcome.rows_per_s for outcome in side]
        accuracies = [outcome.accuracy for outcome in side]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        gain = in_process.ratio([outcome.rows_per_s for outcome in ours], speeds)
        print(f"{name:26} {statistics.median(speeds):8.1f} rows/s  ours is {gain:.2f} times as fast  "
              f"accuracy {statistics.mean(accuracies):.3f} ± {spread:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
