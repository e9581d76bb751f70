"""SetFit's two steps on few labelled rows, beside a linear probe on the untouched base.

    attune up --detach
    python -m tests.benchmarks.few_shot trec:8 sst2:8 --experiments 5

Step 1 is a `sentence-similarity` job on the labelled texts, step 2 a `linear_probe` on the model that it
made, with the same rows. No evaluation picks anything: C is 1, and step 1 keeps the weights of its last
step. With `--left-out` both are judged on other rows of the training file, to choose settings by.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from tests.benchmarks.results import client, merged, run
from tests.benchmarks.sets import PublishedSet, published_sets
from tests.benchmarks.sets.few_shot import few

NEVER = 1_000_000  # evaluate after the last step only
FIGURES = ("accuracy", "f1_macro")


def first_step(rows: PublishedSet, changes: dict[str, Any]) -> PublishedSet:
    """Return step 1 on the same rows: an encoder whose vectors tell the labels apart."""
    spec: dict[str, Any] = {
        "task": "sentence-similarity",
        "data": {"test": None},
        "runtime": {"evaluate_every": NEVER, "baselines": False},
    }
    return replace(rows, spec=merged(spec, changes))


def compare(
    http: httpx2.Client, name: str, rows: PublishedSet, changes: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Run one experiment; return the figures of the probe on the base, and on the model of step 1."""
    tuned = run(http, name, first_step(rows, changes), {})
    found: dict[str, dict[str, float]] = {}
    for title, model in (("probe", rows.models[0]), ("two steps", tuned["model_id"])):
        job = run(http, name, rows, {"model": model, "runtime": {"baselines": False}})
        found[title] = {
            figure: 100 * job["report"]["evaluation"]["test"]["metrics"][figure]
            for figure in FIGURES
        }
    seconds = tuned["finished_at"] - tuned["started_at"]
    probe, steps = ("/".join(f"{v:.2f}" for v in found[t].values()) for t in ("probe", "two steps"))
    settings = tuned["resolved"]["optimization"]
    print(
        f"{name}: probe {probe}, two steps {steps}; step 1: {seconds} s, "
        f"{tuned['report']['steps']} steps of {settings['batch_size']} at {settings['learning_rate']:g}",
        flush=True,
    )
    return found


def main() -> None:
    """Run the experiments and print mean and standard deviation of each set."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sets", nargs="+", help="set:rows of each label, e.g. trec:8")
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    parser.add_argument("--experiments", type=int, default=5)
    parser.add_argument(
        "--left-out", action="store_true", help="judge on rows left out of training"
    )
    parser.add_argument("--optimization", type=json.loads, default={}, help="of step 1, JSON")
    parser.add_argument(
        "--spec", type=json.loads, default={}, help="of step 1, JSON of other fields"
    )
    arguments = parser.parse_args()
    http, sets = client(arguments.home), published_sets()
    changes = {"optimization": arguments.optimization, **arguments.spec}
    for given in arguments.sets:
        name, size = given.split(":")
        found: list[dict[str, dict[str, float]]] = []
        for experiment in range(arguments.experiments):
            title = f"{name}_few{size}_{experiment}"
            rows = sets[title]
            if arguments.left_out:
                rows = replace(rows, test=partial(few, name, int(size), experiment, "left_out"))
            found.append(compare(http, title, rows, changes))
        for step in found[0]:
            print(f"{name}, {size} rows of each label, {step}: {summary([f[step] for f in found])}")


def summary(figures: list[dict[str, float]]) -> str:
    """Return mean and standard deviation of each figure over the experiments."""
    parts: list[str] = []
    for figure in FIGURES:
        values = [found[figure] for found in figures]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        parts.append(f"{figure} {statistics.mean(values):.2f} (sd {spread:.2f})")
    return f"{', '.join(parts)}, {len(figures)} experiments"


if __name__ == "__main__":
    main()
