"""What LoRA costs against full fine-tuning: seconds a step, and memory. Each run has a process of its own.

Memory beyond what is there before the first step: the peak of the resident memory (Linux), and of what
that is made of the gradients and the optimizer's state, which are counted in bytes. The peak also holds
activations, which LoRA needs too: its gradients go through the whole network.

    python -m tests.benchmarks.lora_cost --rows 256 --repeat 3
"""

from __future__ import annotations

import ctypes
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import in_process
from workers.protocol import CheckpointEvent, Event, MetricsEvent, PhaseEvent
from workers.training.checkpoint import OPTIMIZER

METHODS: dict[str, dict[str, Any]] = {
    "full": {"kind": "full"},
    "lora": {"kind": "lora"},
    "lora-no-dropout": {"kind": "lora", "dropout": 0.0},
}
MIB = 2**20
CLEAR_PEAK = "5"  # proc_pid_clear_refs(5): the peak of the resident memory starts anew
BYTES = 4  # of a number in single precision


@dataclass(frozen=True)
class Cost:
    """Milliseconds a step; MiB of peak beyond before, gradients, optimizer; number of trained weights."""

    step_ms: float
    peak: float
    gradients: float
    optimizer: float
    trained: int


def main() -> None:
    """Run all in turns, or one of them where its name is given."""
    parser = in_process.make_options(__doc__, ["banking", "sst2"], rows=256, dev_rows=32)
    parser.add_argument("--method", choices=sorted(METHODS), help="this one alone, in this process")
    options = parser.parse_args()
    if options.method:
        in_process.quiet()
        print(json.dumps(asdict(measure(options))))
        return
    for name in options.data:
        print(in_process.heading(in_process.read(name, options), options))
        runs = {method: partial(fresh, method, name) for method in METHODS}
        report(in_process.in_turns(runs, options.repeat))


def fresh(method: str, name: str, seed: int) -> Cost:
    """Measure in a new process, whose memory no earlier run has stretched."""
    del seed
    command = [sys.executable, "-m", "tests.benchmarks.lora_cost", *sys.argv[1:],
               "--data", name, "--method", method]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def measure(options: Any) -> Cost:
    """Train with one method."""
    data = in_process.read(options.data[0], options)
    spec = in_process.make_spec(data, options, 0, method=METHODS[options.method])
    memory = Memory()
    run = in_process.run_timed(spec, data, options, emit=memory.note)
    trained = run.done.report["trained_parameters"]
    return Cost(
        step_ms=round(1000 * run.steps_s / run.done.report["steps"], 1),
        peak=round((memory.peak - memory.before) / MIB, 1),
        gradients=round(BYTES * trained / MIB, 1),
        optimizer=round(memory.optimizer / MIB, 1),
        trained=trained,
    )


class Memory:
    """Watches the process: resident bytes before the first step and their peak after the last."""

    def __init__(self) -> None:
        self.before = self.peak = self.optimizer = 0

    def note(self, event: Event) -> None:
        match event:
            case PhaseEvent(phase="training"):
                ctypes.CDLL(None).malloc_trim(
                    0
                )  # what evaluating left free is not training's to use
                Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
                self.before = psutil.Process().memory_info().rss
            case MetricsEvent(values=values) if "train/loss" in values:
                self.peak = peak_bytes()
            case CheckpointEvent(folder=folder):
                self.optimizer = (folder / OPTIMIZER).stat().st_size
            case _:
                pass


def peak_bytes() -> int:
    """Return the greatest resident memory since it was last cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def report(found: dict[str, list[Cost]]) -> None:
    """Print medians, and in brackets the share of full fine-tuning's."""
    for name in Cost.__dataclass_fields__:
        full = [getattr(cost, name) for cost in found["full"]]
        sides = {method: [getattr(cost, name) for cost in costs] for method, costs in found.items()}
        shown = (
            f"{method} {statistics.median(side):,.1f} ({in_process.ratio(side, full):.2f})"
            for method, side in sides.items()
        )
        print(f"{name:10}", *shown, sep="  ")


if __name__ == "__main__":
    main()
