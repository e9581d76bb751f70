"""How long the API without predictions takes to start, and what it weighs.

Each round starts `attune serve --no-predict` on a fresh, migrated home and asks for `/healthz`, then, with
a key, for `/v1/jobs`, until they answer. `import torch` is the same in a bare interpreter: what a
control plane would pay before its first line if it loaded the network library.

    python -m tests.benchmarks.startup --rounds 5
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from tests.benchmarks.home import PATIENCE_S, Home, free_port, fresh_home, wait_for

MIB = 1024 * 1024
# Libraries by a file that the process maps once they are imported.
HEAVY = {
    "torch": r"libtorch",
    "transformers": r"tokenizers\.abi3|tokenizers/",
    "pyarrow": r"libarrow",
}


@dataclass(frozen=True)
class Start:
    """Seconds from exec to the first answers, resident MiB after them, and heavy libraries loaded."""

    healthz_s: float
    jobs_s: float
    resident_mib: float
    loaded: tuple[str, ...]


def main() -> None:
    """Start it a few times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    start()  # compiled modules and the disk's cache, as after the first start on any machine
    starts = [start() for _ in range(rounds)]
    torch = statistics.median(import_seconds("torch") for _ in range(2))
    loaded = sorted({name for each in starts for name in each.loaded})
    rows = (
        ("exec to first /healthz, s", [each.healthz_s for each in starts], "<= 2"),
        ("exec to first GET /v1/jobs, s", [each.jobs_s for each in starts], "<= 2"),
        ("resident memory, MiB", [each.resident_mib for each in starts], "<= 150"),
    )
    print(f"{'attune serve --no-predict':<32} {'median':>8} {'min':>8} {'max':>8} {'goal':>8}")
    for name, values, goal in rows:
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:<32} {middle:>8.2f} {low:>8.2f} {high:>8.2f} {goal:>8}")
    print(f"heavy libraries loaded: {', '.join(loaded) or 'none'} (of {', '.join(HEAVY)})")
    healthz = statistics.median(each.healthz_s for each in starts)
    print(f"for comparison, import torch: {torch:.2f} s; ratio {healthz / torch:.2f}")


def start() -> Start:
    """Start the API once on a home of its own."""
    with fresh_home() as home:
        port = free_port()
        command = [sys.executable, "-m", "app.cli", "serve", "--no-predict", "--port", str(port)]
        with (home.path / f"{port}.log").open("ab") as log:
            began = time.monotonic()
            process = subprocess.Popen(command, env=home.environment, stdout=log, stderr=log)
        try:
            wait_for(port, process, home)
            return measure(process, port, home, began)
        finally:
            process.terminate()
            process.wait()


def measure(process: subprocess.Popen[bytes], port: int, home: Home, began: float) -> Start:
    """Ask until the API answers, then look at the process."""
    until_answer(port, "/healthz", {})
    healthz = time.monotonic() - began
    until_answer(port, "/v1/jobs", {"Authorization": f"Bearer {home.key}"})
    jobs = time.monotonic() - began
    server = psutil.Process(process.pid)
    mapped = "\n".join(region.path for region in server.memory_maps())
    loaded = tuple(name for name, file in HEAVY.items() if re.search(file, mapped))
    return Start(healthz, jobs, server.memory_info().rss / MIB, loaded)


def until_answer(port: int, path: str, headers: Mapping[str, str]) -> None:
    """Ask for a path until it answers 200."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", path, headers=dict(headers))
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.005)
    raise RuntimeError(f"no answer from {path}")


def import_seconds(module: str) -> float:
    """Return what an interpreter takes to start and import a module."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
