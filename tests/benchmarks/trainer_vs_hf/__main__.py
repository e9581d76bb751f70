"""Our loop against Hugging Face's Trainer with its defaults, in one run on one machine.

Same base model, rows, epochs, learning rate, batch size and seed; both evaluate before and after. `train`
counts the steps alone, `whole` the evaluations and what each of the two saves, too. Of multi30k only the
steps are compared, because our evaluation writes answers; quality is the loss on the dev rows.

    python -m tests.benchmarks.trainer_vs_hf --data sst2 --rows 2000 --repeat 2
    python -m tests.benchmarks.trainer_vs_hf --data ncbi multi30k --rows 1000 --dev-rows 300 --repeat 2
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import in_process, small_t5
from tests.benchmarks.in_process import Data
from tests.benchmarks.trainer_vs_hf.contests import CONTESTS, Contest
from tests.benchmarks.trainer_vs_hf.trainer import train


@dataclass(frozen=True)
class Outcome:
    """Rows a second in the steps and over all, and how good the model is on the dev set."""

    train: float
    whole: float
    quality: float


def main() -> None:
    """Run both in turns on each set and print a table."""
    options = in_process.make_options(__doc__, ["banking", *CONTESTS]).parse_args()
    in_process.quiet()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.data:
            data = in_process.read(name, options)
            print(in_process.heading(data, options))
            compare(data, CONTESTS.get(name, CONTESTS["sst2"]), options, Path(folder))


def compare(data: Data, contest: Contest, options: Any, folder: Path) -> None:
    """Run both on one set."""
    if contest.model == small_t5.NAME:
        small_t5.make(folder / small_t5.NAME)
    runs = {
        "attune": partial(run_ours, data, contest, options, folder),
        "hf trainer": partial(run_theirs, data, contest, options, folder),
    }
    ours, theirs = in_process.in_turns(runs, options.repeat).values()
    for name in ("train", "whole")[: 1 if contest.is_written else 2]:
        a, b = ([getattr(outcome, name) for outcome in side] for side in (ours, theirs))
        print(f"{name:16} attune {statistics.median(a):8.2f} rows/s  hf trainer "
              f"{statistics.median(b):8.2f} rows/s  ratio {in_process.ratio(a, b):.2f}")  # fmt: skip
    a, b = (statistics.mean(outcome.quality for outcome in side) for side in (ours, theirs))
    print(f"{contest.metric:16} attune {a:8.4f}         hf trainer {b:8.4f}")


def run_ours(data: Data, contest: Contest, options: Any, folder: Path, seed: int) -> Outcome:
    """Train with the recipe that a job runs."""
    spec = in_process.make_spec(data, options, seed, model=contest.model, **contest.changes)
    run = in_process.run_timed(spec, data, options, model_dirs=[folder])
    count = len(data.train) * options.epochs
    quality = run.done.metrics[f"validation/{contest.metric}"]
    return Outcome(count / run.steps_s, count / run.whole_s, quality)


def run_theirs(data: Data, contest: Contest, options: Any, folder: Path, seed: int) -> Outcome:
    """Train with `transformers.Trainer`."""
    steps_s, whole_s, quality = train(data, contest, options, folder, seed)
    count = len(data.train) * options.epochs
    return Outcome(count / steps_s, count / whole_s, quality)


if __name__ == "__main__":
    main()
