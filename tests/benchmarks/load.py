"""Keep-alive clients in a process of their own: each sends its next request when it has its answer.

HTTP by hand over asyncio streams, because a client library costs as much as the server it measures.
Knows one method, one path and one body; prints what it measured as JSON.

    python -m tests.benchmarks.load PORT GET /healthz --requests 1000 --clients 8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass

from tests.benchmarks.home import ROOT


@dataclass(frozen=True)
class Load:
    """What one loop measured."""

    requests_per_s: float
    p50_ms: float


def load(port: int, method: str, path: str, *, requests: int, clients: int, key: str = "",
         body: str = "") -> Load:  # fmt: skip
    """Run the clients in a process of their own and return what they measured.

    Raises:
        RuntimeError: an answer was not a success.
    """
    command = [sys.executable, "-m", "tests.benchmarks.load", str(port), method, path,
               "--requests", str(requests), "--clients", str(clients), "--key", key,
               "--body", body]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr or done.stdout)
    found = json.loads(done.stdout)
    return Load(found["requests_per_s"], found["p50_ms"])


def main() -> None:
    """Be the clients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("method")
    parser.add_argument("path")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--key", default="")
    parser.add_argument("--body", default="")
    options = parser.parse_args()
    body = options.body.encode()
    head = [f"{options.method} {options.path} HTTP/1.1", "Host: 127.0.0.1"]
    if options.key:
        head.append(f"Authorization: Bearer {options.key}")
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*head, "", ""]).encode() + body
    print(json.dumps(asyncio.run(run(options, request))))


async def run(options: argparse.Namespace, request: bytes) -> dict[str, float]:
    """Send the requests; the clients share what is left to send."""
    left = iter(range(options.requests))
    times: list[float] = []
    statuses: Counter[int] = Counter()
    pairs = [
        await asyncio.open_connection("127.0.0.1", options.port) for _ in range(options.clients)
    ]

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in left:
            sent = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.lower()
            length = int(fields.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            answer = await reader.readexactly(length)
            times.append(time.perf_counter() - sent)
            status = int(head[9:12])
            statuses[status] += 1
            if status >= 400:
                sys.exit(answer.decode())
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(*pair) for pair in pairs))
    elapsed = time.perf_counter() - began
    return {
        "requests_per_s": len(times) / elapsed,
        "p50_ms": statistics.median(times) * 1000,
    }


if __name__ == "__main__":
    main()
