"""From `POST /v1/jobs` to the first training step, with a warm standby, and where the time goes.

Runs `attune up` on a fresh home and submits the sample data a few times; the first job, which finds no
warm trainer, is left out. Times are the database's: of the job's row, its events and its first metric.

    python -m tests.benchmarks.first_step --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import text

from app.kit.db import Database
from tests.benchmarks.home import ROOT, Home, free_port, fresh_home, running

SAMPLES = ROOT / "examples" / "banking" / "train.jsonl"
STANDBY_S = 12.0  # what the next trainer needs to import torch, on a slow machine

SPANS = {
    "waiting for a worker": ("submitted", "claimed"),
    "handing over": ("claimed", "validating"),
    "reading the data": ("validating", "loading"),
    "loading the model": ("loading", "encoding"),
    "tokenizing": ("encoding", "evaluating"),
    "judging the untouched model": ("evaluating", "training"),
    "until the first loss is stored": ("training", "first loss"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    options = parser.parse_args()
    with fresh_home() as home:
        port = free_port()
        command = [sys.executable, "-m", "app.cli", "up", "--port", str(port)]
        with running(command, port, home), client(port, home) as http:
            file_id = upload(http, SAMPLES)
            rounds = [one(http, home, file_id, options.model) for _ in range(options.rounds + 1)]
    show(rounds[1:])


def client(port: int, home: Home) -> httpx2.Client:
    """Return a client of the server."""
    headers = {"Authorization": f"Bearer {home.key}"}
    return httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0)


def upload(http: httpx2.Client, path: Path) -> str:
    """Upload a file and return its id."""
    with path.open("rb") as file:
        answer = http.post("/v1/files", files={"file": (path.name, file)})
    answer.raise_for_status()
    return str(answer.json()["id"])


def one(http: httpx2.Client, home: Home, file_id: str, model: str) -> dict[str, float]:
    """Run one job of two steps; return when each mark was passed."""
    time.sleep(STANDBY_S)
    spec = {
        "kind": "fine_tune",
        "model": model,
        "task": "text-classification",
        "data": {"train": file_id},
        "optimization": {"max_steps": 2, "epochs": 1},
    }
    answer = http.post("/v1/jobs", json=spec)
    answer.raise_for_status()
    job: dict[str, Any] = answer.json()
    while job["state"] in {"queued", "running"}:
        time.sleep(0.2)
        job = http.get(f"/v1/jobs/{job['id']}").json()
    if job["state"] != "succeeded":
        sys.exit(str(job["error"]))
    return marks(home, job["id"])


def marks(home: Home, job_id: str) -> dict[str, float]:
    """Read the moments of a job, unix seconds, from the database."""
    database = Database(home.settings.resolved_database_url)
    with database.read() as session:
        one_job = {"id": job_id}
        query = "SELECT created_at, started_at FROM jobs WHERE id = :id"
        submitted, claimed = session.execute(text(query), one_job).one()
        query = (
            "SELECT json_extract(data, '$.phase'), MIN(created_at) FROM job_events "
            "WHERE job_id = :id AND type = 'phase' GROUP BY 1"
        )
        found = dict(session.execute(text(query), one_job).tuples().all())
        query = "SELECT MIN(created_at) FROM job_metrics WHERE job_id = :id AND name = 'train/loss'"
        first = session.execute(text(query), one_job).scalar_one()
    database.dispose()
    return found | {"submitted": submitted, "claimed": claimed, "first loss": first}


def show(rounds: list[dict[str, float]]) -> None:
    """Print each span's median, least and most."""
    print(f"{'seconds':<32} {'median':>8} {'min':>8} {'max':>8}")
    for name, (start, end) in SPANS.items():
        line(name, [each[end] - each[start] for each in rounds])
    total = [each["training"] - each["submitted"] for each in rounds]
    reading = [each["loading"] - each["validating"] for each in rounds]
    judging = [each["training"] - each["evaluating"] for each in rounds]
    line("to the first step", total)
    beyond = [a - b for a, b in zip(total, reading, strict=True)]
    line("  beyond reading the data", beyond, "goal <= 1")
    rest = [a - b for a, b in zip(beyond, judging, strict=True)]
    line("  and beyond judging", rest)


def line(name: str, values: list[float], note: str = "") -> None:
    """Print one row."""
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:<32} {middle:>8.2f} {low:>8.2f} {high:>8.2f} {note}".rstrip())


if __name__ == "__main__":
    main()
