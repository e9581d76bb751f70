"""`GET /v1/jobs/{id}` and `POST /v1/jobs` against the same two routes written bare (`bare.py`).

Ours is `attune serve --no-predict` as it is deployed: keys, limits, request ids, log, metrics, history,
outbox, and the relay that hands each job to a real broker meanwhile. Both servers run under uvicorn on
this machine, on SQLite files with the same pragmas, and are loaded in turn in short rounds, so that what
else the machine does hits both. Jobs of a round are ended before the next: the queue is never longer
than a round.

    python -m tests.benchmarks.control_plane --rounds 7 --clients 8
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import httpx2
from sqlalchemy import text

from app.kit.db import Database
from app.queue.embedded import EmbeddedBroker
from app.settings import Settings
from tests.benchmarks.home import Home, free_port, fresh_home, running
from tests.benchmarks.load import Load, load

ROWS = "text,label\n" + "".join(f"a sentence about {n},{n % 2}\n" for n in range(50))
# Where the jobs of a server lie, and what ends them.
END = "UPDATE jobs SET state = 'cancelled' WHERE state = 'queued' AND id != :kept"


@dataclass(frozen=True)
class Server:
    """One of the two: where it answers, with which key, and where its rows are."""

    port: int
    key: str
    database_url: str
    job_id: str

    def end_jobs(self) -> None:
        """End what a round submitted, except the job that GET asks for."""
        database = Database(self.database_url)
        with database.transaction() as session:
            session.execute(text(END), {"kept": self.job_id})
        database.dispose()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--gets", type=int, default=1000, help="requests of one round")
    parser.add_argument("--posts", type=int, default=300, help="requests of one round")
    options = parser.parse_args()
    with fresh_home() as home, serving(home) as (servers, body):
        print(f"{'route':<20} {'server':<7} {'requests/s':>10} {'p50 ms':>8} {'ratio':>6}  goal")
        for method, count in (("GET", options.gets), ("POST", options.posts)):
            rounds: dict[str, list[Load]] = {name: [] for name in servers}
            for number in range(options.rounds + 1):
                for name, server in servers.items():
                    found = ask(server, method, body, count, options.clients)
                    if number:  # the first is the warm-up
                        rounds[name].append(found)
            show(method, rounds)


def ask(server: Server, method: str, body: str, requests: int, clients: int) -> Load:
    """Load one server for one round."""
    path = f"/v1/jobs/{server.job_id}" if method == "GET" else "/v1/jobs"
    found = load(
        server.port, method, path, requests=requests, clients=clients, key=server.key,
        body=body if method == "POST" else "",
    )  # fmt: skip
    server.end_jobs()
    return found


@contextlib.contextmanager
def serving(home: Home) -> Generator[tuple[Mapping[str, Server], str]]:
    """Run broker and both servers; give them with the body of a submit."""
    model = home.path / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    home = dataclasses.replace(
        home, extra={"ATTUNE_MODEL_DIRS": json.dumps([str(home.path / "models")])}
    )
    broker = EmbeddedBroker(Settings(home=home.path))
    ports = {"attune": free_port(), "bare": free_port()}
    ours = ["-m", "app.cli", "serve", "--no-predict", "--port", str(ports["attune"])]
    theirs = ["-m", "tests.benchmarks.bare", str(home.path), str(ports["bare"])]
    with contextlib.ExitStack() as stack:
        broker.start()
        stack.callback(broker.stop)
        stack.enter_context(running([sys.executable, *ours], ports["attune"], home))
        stack.enter_context(running([sys.executable, *theirs], ports["bare"], home))
        body = json.dumps(spec(ports["attune"], home.key))
        urls = {
            "attune": home.settings.resolved_database_url,
            "bare": f"sqlite:///{home.path / 'bare.db'}",
        }
        yield {name: Server(port, home.key, urls[name], submit(port, home.key, body))
               for name, port in ports.items()}, body  # fmt: skip


def spec(port: int, key: str) -> dict[str, object]:
    """Upload a file and return a job spec that names it."""
    with client(port, key) as http:
        answer = http.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.csv", ROWS)}
        )
        answer.raise_for_status()
    return {
        "kind": "fine_tune",
        "model": "tiny",
        "task": "text-classification",
        "data": {"train": answer.json()["id"]},
        "optimization": {"epochs": 3, "batch_size": 16, "learning_rate": 1e-3},
        "metadata": {"team": "benchmarks"},
    }


def submit(port: int, key: str, body: str) -> str:
    """Submit one job and return its id."""
    with client(port, key) as http:
        answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        answer.raise_for_status()
        return str(answer.json()["id"])


def client(port: int, key: str) -> httpx2.Client:
    """Return a client of one server."""
    return httpx2.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60.0,
        trust_env=False,
    )


def show(method: str, rounds: Mapping[str, list[Load]]) -> None:
    """Print the medians, and the median of the ratios of neighbouring rounds."""
    ratios = sorted(
        ours.requests_per_s / theirs.requests_per_s
        for ours, theirs in zip(rounds["attune"], rounds["bare"], strict=True)
    )
    route = "GET /v1/jobs/{id}" if method == "GET" else "POST /v1/jobs"
    for name, loads in rounds.items():
        rate = statistics.median(each.requests_per_s for each in loads)
        p50 = statistics.median(each.p50_ms for each in loads)
        ratio = f"{statistics.median(ratios):6.2f}  >= 0.7" if name == "attune" else "  1.00"
        print(f"{route:<20} {name:<7} {rate:>10.0f} {p50:>8.1f} {ratio}")
    print(f"{'':<20} ratios of the rounds: {' '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
