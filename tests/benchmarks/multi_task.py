"""Train published data sets together, around one encoder, and beside each a model of its own.

    attune up --detach
    python -m tests.benchmarks.multi_task sst2 ncbi --spec '{"weighting": "uncertainty"}'

Sets, server and held-out rows are those of `tests.benchmarks.results`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks.results import client, figures, finished, merged, upload
from tests.benchmarks.sets import PublishedSet, published_sets


def main() -> None:
    """Run one job of all the named sets."""
    sets = published_sets()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(sets))
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    parser.add_argument("--spec", type=json.loads, default={}, help="JSON of any further fields")
    arguments = parser.parse_args()
    http = client(arguments.home)
    spec: dict[str, Any] = {
        "kind": "multi_task",
        "model": sets[arguments.sets[0]].models[0],
        "tasks": {name.replace("_", "-"): part(http, sets[name]) for name in arguments.sets},
    }
    job = finished(http, merged(spec, arguments.spec))
    show(job)


def part(http: Any, chosen: PublishedSet) -> dict[str, Any]:
    """Return one task of the job, its files uploaded."""
    parts = {"train": chosen.train, "validation": chosen.validation, "test": chosen.test}
    files = {
        name: upload(http, *chosen.content(content))
        for name, content in parts.items()
        if content is not None
    }
    return {"task": chosen.spec["task"], "data": merged(files, chosen.spec.get("data", {}))}


def show(job: dict[str, Any]) -> None:
    """Print each task's figures, those of the model trained apart, and the sizes."""
    report, resolved = job["report"], job["resolved"]["optimization"]
    seconds = job["finished_at"] - job["started_at"]
    print(f"{job['model_id']}, {seconds} s, {resolved['epochs']} epochs, {report['steps']} steps")
    for name, metric in report["primary_metrics"].items():
        split = "test" if f"test/{name}" in report["evaluation"] else "validation"
        found = report["evaluation"][f"{split}/{name}"]
        print(f"  {name:12} {split:10} together {figures(found['metrics'], found['intervals'])}")
        apart = report["apart"].get(name)
        if apart is not None:
            values = figures(apart[split]["metrics"], apart[split]["intervals"])
            print(f"  {'':12} {'':10} apart    {values}; {metric} {apart['delta']:+.4f}")
    sizes = report["parameters"]
    print(
        f"  {sizes['together']:,} weights together, {sizes['apart']:,} apart; rows a step "
        f"{report['rows_a_step']}"
    )


if __name__ == "__main__":
    main()
