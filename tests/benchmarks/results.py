"""Fine-tune on published data sets over HTTP and print what came of it: `docs/results.md` repeated.

    attune up --detach
    python -m tests.benchmarks.results sst2 trec htl_zh

The sets lie under `ATTUNE_TEST_DATA` (default `../shared/data`); `tests/benchmarks/sets/` describes them.
The published evaluation set is given as `data.test` and plays no part in training or in choosing a
checkpoint: that is done on rows held out of the training file, or on the set's own validation file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import httpx2

from tests.benchmarks.sets import PublishedSet, published_sets


def client(home: Path) -> httpx2.Client:
    """Return a client of the server that `attune up` started on this home."""
    credentials = json.loads((home / "credentials.json").read_text())
    return httpx2.Client(
        base_url=os.environ.get("ATTUNE_URL", credentials["url"]),
        headers={"Authorization": f"Bearer {os.environ.get('ATTUNE_API_KEY', credentials['key'])}"},
        timeout=120.0,
    )


def upload(http: httpx2.Client, name: str, content: bytes) -> str:
    """Upload a file."""
    answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})
    if answer.status_code != httpx2.codes.CREATED:
        sys.exit(answer.text)
    return str(answer.json()["id"])


def run(
    http: httpx2.Client, name: str, chosen: PublishedSet, changes: dict[str, Any]
) -> dict[str, Any]:
    """Run one job to its end and return it."""
    parts = {"train": chosen.train, "validation": chosen.validation, "test": chosen.test}
    files = {
        part: upload(http, *chosen.content(content))
        for part, content in parts.items()
        if content is not None
    }
    begins: dict[str, Any] = {"data": files, "suffix": name.replace("_", "-")}
    if "teacher" not in changes:  # a distillation's student is no model
        begins |= {"kind": "fine_tune", "model": chosen.models[0]}
    spec = merged(begins, chosen.spec, changes)
    return finished(http, spec)


def finished(http: httpx2.Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Submit a job, wait for its end and return it."""
    answer = http.post("/v1/jobs", json=spec)
    if answer.status_code != httpx2.codes.CREATED:
        sys.exit(answer.text)
    job = answer.json()
    while job["state"] in {"queued", "running"}:
        time.sleep(1.0)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    if job["state"] != "succeeded":
        sys.exit(json.dumps(job["error"], indent=2))
    return job


def merged(*specs: dict[str, Any]) -> dict[str, Any]:
    """Return one spec of several; later ones win, field by field. A `kind` replaces what it is in."""
    result: dict[str, Any] = {}
    for spec in specs:
        for key, value in spec.items():
            old = result.get(key)
            is_patch = isinstance(value, dict) and isinstance(old, dict) and "kind" not in value
            result[key] = merged(old, value) if is_patch else value
    return result


def main() -> None:
    """Run the named sets."""
    sets = published_sets()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(sets))
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--optimization", type=json.loads, default={}, help="JSON, e.g. '{\"epochs\": 4}'"
    )
    parser.add_argument("--method", type=json.loads, nargs="+", default=[None], help="JSON")
    parser.add_argument("--spec", type=json.loads, default={}, help="JSON of any other fields")
    arguments = parser.parse_args()
    http = client(arguments.home)
    for name, seed, method in product(arguments.sets, arguments.seeds, arguments.method):
        changes: dict[str, Any] = {
            "optimization": arguments.optimization,
            "runtime": {"seed": seed},
            **arguments.spec,
        }
        if method is not None:
            changes["method"] = method
        job = run(http, name, sets[name], changes)
        show(f"{name} {job['spec']['method']['kind']} seed {seed}", job)


def show(title: str, job: dict[str, Any]) -> None:
    """Print what came of a job: every figure of the test set, with its interval where it has one."""
    report, resolved = job["report"], job["resolved"]["optimization"]
    print(f"{title}: {job['model_id']}, {job['finished_at'] - job['started_at']} s")
    for split in ("test", "validation"):
        found = report["evaluation"].get(split)
        if found is not None:
            print(f"  {split:10} {figures(found['metrics'], found['intervals'])}")
    print(f"  {'before':10} {figures(report['before'], {})} (validation)")
    for name, values in report["baselines"].items():
        found = values.get("test") or values.get("validation") or {}
        print(f"  {name:10} {figures(found.get('metrics', {}), found.get('intervals', {}))}")
    print(
        f"  {report['trained_parameters']:,} weights, {resolved['epochs']} epochs, "
        f"lr {resolved['learning_rate']}, length {resolved['max_length']}, best step "
        f"{report['best_step']} of {report['steps']}",
        flush=True,
    )


def figures(metrics: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> str:
    """Return metrics in one line."""
    parts: list[str] = []
    for name, value in metrics.items():
        low_high = intervals.get(name)
        around = f" [{low_high[0]:.4g}, {low_high[1]:.4g}]" if low_high else ""
        parts.append(f"{name} {value:.4g}{around}")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
