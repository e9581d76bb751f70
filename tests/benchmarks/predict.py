"""Predictions under load: this server against the server that everybody writes first.

The other one is FastAPI with a transformers pipeline in a `def` route: one text, one forward pass. Both
run in processes of their own on this machine and are loaded in turn, with the same model, texts and
clients: a closed loop, each client sending its next request when it has the answer to the last. The
model's weights are random, which is as fast as trained.

    python tests/benchmarks/predict.py --seconds 5 --clients 1 16 64 --hidden 384 --layers 6
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

ROOT = Path(__file__).resolve().parents[2]
MODEL = "ft:tiny:benchmark:0000000000"
STARTUP_S = 120.0
ROUNDS = 3
WORDS = "good bad new old one two three film plot card transfer please where block stolen"

OURS = """
import sys
from pathlib import Path
import uvicorn
from tests.served import Served, Settings
home, port, hidden, layers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
made = Served(Settings(home=home, hub=False, log_level="error"))
made.add_model("ft:tiny:benchmark:0000000000", hidden=hidden, layers=layers, max_positions=128,
               max_length=128)
(home / "key").write_text(made.headers()["Authorization"])
uvicorn.run(made.app, port=port, log_level="error", access_log=False)
"""
THEIRS = """
import sys
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline
classifier = pipeline("text-classification", model=sys.argv[1], device="cpu", top_k=None)
app = FastAPI()
class Body(BaseModel):
    inputs: list[str]
@app.post("/predict")
def predict(body: Body):
    return {"data": classifier(body.inputs)}
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""


@dataclass(frozen=True)
class Load:
    """What one loop measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Predictions under load, ours and the usual.")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each loop, after a warm-up")
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        home = Path(folder)
        size = (str(options.hidden), str(options.layers))
        ours = servers.enter_context(server(OURS, str(home), *size))
        model = next((home / "store" / "models").iterdir())
        theirs = servers.enter_context(server(THEIRS, str(model)))
        header = {"Authorization": (home / "key").read_text()}
        targets = {
            "attune": (f"{ours}/v1/models/{MODEL}/predict", header),
            "pipeline": (f"{theirs}/predict", {}),
        }
        show(compare(targets, options.clients, options.seconds), options.clients)


def compare(
    targets: dict[str, tuple[str, dict[str, str]]], clients: Sequence[int], seconds: float
) -> dict[str, list[Load]]:
    """Load the servers in turn, in short rounds, so that what else the machine does hits both."""
    for url, headers in targets.values():
        asyncio.run(loop(url, headers, 4, min(seconds, 2.0)))
    rows: dict[str, list[Load]] = {name: [] for name in targets}
    for count in clients:
        rounds: dict[str, list[Load]] = {name: [] for name in targets}
        for _ in range(ROUNDS):
            for name, (url, headers) in targets.items():
                rounds[name].append(asyncio.run(loop(url, headers, count, seconds / ROUNDS)))
        for name, loads in rounds.items():
            rows[name].append(middle(loads))
    return rows


def middle(loads: Sequence[Load]) -> Load:
    """Return the median of each figure."""
    return Load(
        statistics.median(load.requests_per_s for load in loads),
        statistics.median(load.p50_ms for load in loads),
        statistics.median(load.p99_ms for load in loads),
    )


@contextlib.contextmanager
def server(script: str, first: str, *rest: str) -> Generator[str]:
    """Run a script as a server on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", script, first, str(port), *rest], cwd=ROOT, env=environment
    )
    try:
        until = time.monotonic() + STARTUP_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > until:
                message = "the server did not start"
                raise RuntimeError(message)
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def loop(url: str, headers: dict[str, str], clients: int, seconds: float) -> Load:
    """Let clients send one text after the other; texts are 3 to 40 words, the same in every run."""
    times: list[float] = []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async with httpx.AsyncClient(headers=headers, timeout=60.0, limits=limits) as session:
        await session.post(url, json={"inputs": ["good film"]})
        started = time.monotonic()

        async def client(number: int) -> None:
            draw = random.Random(number)  # noqa: S311 - no secret
            while time.monotonic() - started < seconds:
                text = " ".join(draw.choices(WORDS.split(), k=draw.randint(3, 40)))
                sent = time.monotonic()
                answer = await session.post(url, json={"inputs": [text]})
                times.append(time.monotonic() - sent)
                if answer.status_code != httpx.codes.OK:
                    raise RuntimeError(json.dumps(answer.json()))

        await asyncio.gather(*(client(number) for number in range(clients)))
        elapsed = time.monotonic() - started
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    return Load(len(times) / elapsed, cuts[49] * 1000, cuts[98] * 1000)


def show(rows: dict[str, list[Load]], clients: Sequence[int]) -> None:
    print(
        f"{'clients':>8}  {'server':<9} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'ratio':>6}"
    )
    for index, count in enumerate(clients):
        base = rows["pipeline"][index].requests_per_s
        for name, loads in rows.items():
            load = loads[index]
            print(
                f"{count:>8}  {name:<9} {load.requests_per_s:>10.1f} {load.p50_ms:>8.1f} "
                f"{load.p99_ms:>8.1f} {load.requests_per_s / base:>6.2f}"
            )


if __name__ == "__main__":
    main()
