"""Short sequences side by side in a row against padding: tokens a second of the steps, with our batches of
similar lengths and with random ones. Random ones are padded to their longest, as most trainers do.

The base is stories260K, which ATTUNE_MODEL_DIRS must have.

    python -m tests.benchmarks.packing --data alpaca_en gsm8k --rows 320 --repeat 3
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from tests.benchmarks import in_process
from tests.benchmarks.in_process import Data
from tests.benchmarks.plans import RandomPlan
from workers.training.batches import BatchPlan
from workers.training.loop import Loop

BASE = "stories260K"
WAYS = {
    "random, padded": (RandomPlan, False),
    "random, packed": (RandomPlan, True),
    "ours, padded": (BatchPlan, False),
    "ours, packed": (BatchPlan, True),
}


@dataclass(frozen=True)
class Outcome:
    """Tokens a second, and the loss on the dev set."""

    tokens_per_s: float
    loss: float


def main() -> None:
    """Run all in turns and print a table."""
    parser = in_process.make_options(
        __doc__, ["alpaca_en", "gsm8k"], rows=320, dev_rows=40, learning_rate=1e-3
    )
    parser.add_argument("--max-batch-tokens", type=int, help="that go through the network at once")
    options = parser.parse_args()
    if not any((folder / BASE).is_dir() for folder in in_process.MODEL_DIRS):
        print(f"left out: {BASE} lies under none of {list(map(str, in_process.MODEL_DIRS))}")
        return
    in_process.quiet()
    for name in options.data:
        data = in_process.read(name, options)
        print(in_process.heading(data, options))
        runs = {way: partial(run, data, options, *how) for way, how in WAYS.items()}
        found = in_process.in_turns(runs, options.repeat)
        first, *_ = found.values()
        for way, side in found.items():
            speeds = [outcome.tokens_per_s for outcome in side]
            gain = in_process.ratio(speeds, [outcome.tokens_per_s for outcome in first])
            print(f"{way:16} {statistics.median(speeds):8.0f} tokens/s  {gain:.2f}  "
                  f"loss {statistics.mean(outcome.loss for outcome in side):.4f}")  # fmt: skip


def run(data: Data, options: Any, plan: type[BatchPlan], is_packed: bool, seed: int) -> Outcome:
    """Train once."""
    spec = in_process.make_spec(
        data, options, seed,
        model=BASE,
        task={"kind": "text-generation", "decoding": {"max_new_tokens": 1}},
        optimization={
            "packing": is_packed,
            "max_batch_tokens": options.max_batch_tokens or "auto",
        },
    )  # fmt: skip
    with patch.object(Loop, "plan_type", plan):
        found = in_process.run_timed(spec, data, options)
    tokens = found.done.report["trained_tokens"]
    return Outcome(tokens / found.steps_s, found.done.metrics["validation/loss"])


if __name__ == "__main__":
    main()
