"""Fine-tune on published data sets over HTTP and print what came of it: `docs/results.md` repeated.

    attune up --detach
    python -m tests.benchmarks.results sst2 trec htl_zh

The sets lie under `ATTUNE_TEST_DATA` (default `../shared/data`). The published evaluation set is given as
`data.test` and plays no part in training or in choosing a checkpoint: that is done on rows held out of
the training file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import httpx2

from tests.published import DATA

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "examples" / "banking"  # absolute, so that it stands beside the others
# name: training file, evaluation file, header line to put before both, data options, optimization
SETS: dict[str, tuple[str, str, str, dict[str, Any], dict[str, Any]]] = {
    "banking": (str(SAMPLES / "train.jsonl"), str(SAMPLES / "test.jsonl"), "", {}, {}),
    "sst2": ("sst2/train.tsv", "sst2/dev.tsv", "text\tlabel\n", {}, {}),
    "trec": (
        "trec/train.jsonl",
        "trec/test.jsonl",
        "",
        {"split": {"validation": 0.05}},
        {"epochs": 5},
    ),
    "htl_zh": (
        "chnsenticorp_htl_zh/train.csv",
        "chnsenticorp_htl_zh/test.csv",
        "",
        {"on_bad_rows": "skip"},
        {"epochs": 2, "max_length": 192},
    ),
}


def client(home: Path) -> httpx2.Client:
    """Return a client of the server that `attune up` started on this home."""
    credentials = json.loads((home / "credentials.json").read_text())
    return httpx2.Client(
        base_url=os.environ.get("ATTUNE_URL", credentials["url"]),
        headers={"Authorization": f"Bearer {os.environ.get('ATTUNE_API_KEY', credentials['key'])}"},
        timeout=120.0,
    )


def upload(http: httpx2.Client, path: Path, header: str) -> str:
    """Upload a file, with a header line where the published one has none."""
    content = header.encode() + path.read_bytes()
    answer = http.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": (path.name, content)}
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def run(
    http: httpx2.Client, name: str, seed: int, method: Any, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Run one job to its end and return it."""
    folder = DATA / "text_classification"
    train, test, header, data, optimization = SETS[name]
    spec = {
        "kind": "fine_tune",
        "model": "all-MiniLM-L6-v2",
        "task": "text-classification",
        "data": {
            "train": upload(http, folder / train, header),
            "test": upload(http, folder / test, header),
            **data,
        },
        "method": method,
        "optimization": {**optimization, **overrides},
        "runtime": {"seed": seed},
        "suffix": name.replace("_", "-"),
    }
    answer = http.post("/v1/jobs", json=spec)
    if answer.status_code != 201:
        sys.exit(answer.text)
    job = answer.json()
    while job["state"] in {"queued", "running"}:
        time.sleep(2.0)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    if job["state"] != "succeeded":
        sys.exit(json.dumps(job["error"], indent=2))
    return job


def main() -> None:
    """Run the named sets."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(SETS))
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--optimization", type=json.loads, default={}, help="JSON, e.g. '{\"epochs\": 4}'"
    )
    parser.add_argument(
        "--method", type=json.loads, nargs="+", default=[{"kind": "full"}], help="JSON, one or more"
    )
    arguments = parser.parse_args()
    http = client(arguments.home)
    for name, seed, method in product(arguments.sets, arguments.seeds, arguments.method):
        job = run(http, name, seed, method, arguments.optimization)
        show(f"{name} {method['kind']} seed {seed}", job)


def show(title: str, job: dict[str, Any]) -> None:
    """Print what came of a job, in one line."""
    report, resolved = job["report"], job["resolved"]["optimization"]
    test, validation = (report["evaluation"][name]["metrics"] for name in ("test", "validation"))
    print(
        f"{title}: test accuracy {test['accuracy']:.4f}, macro F1 {test['f1_macro']:.4f}, "
        f"validation {validation['accuracy']:.4f}, majority {report['baselines']['majority']['test']:.4f}; "
        f"{report['trained_parameters']:,} weights, {resolved['epochs']} epochs, "
        f"lr {resolved['learning_rate']}, length {resolved['max_length']}, best step "
        f"{report['best_step']} of {report['steps']}, {job['finished_at'] - job['started_at']} s, "
        f"{job['model_id']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
