"""What benchmarks of the trainer share: rows of a set, a recipe run in this process with its events timed,
variants run in turns and compared with their neighbours.

On a machine that others use too, `--clock cpu` with OMP_NUM_THREADS=1 counts the processor's time of this
process instead of the wall's: it is what the work costs, not what was left for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any, TypeVar

import torch
import transformers

from app.adapt.dataset import read_dataset
from app.settings import Settings
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.benchmarks.results import merged
from tests.benchmarks.sets import published_sets
from tests.published import DATA
from workers.protocol import (
    Assignment,
    Event,
    FinishedEvent,
    InputFile,
    MetricsEvent,
    PhaseEvent,
    ResolvedEvent,
)
from workers.recipes import run_recipe

CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}
MODEL = "all-MiniLM-L6-v2"
MODEL_DIRS = [*Settings().model_dirs, DATA.parent / "models"]  # ATTUNE_MODEL_DIRS, beside the data
SHIPPED = "banking"  # the one set that needs no published data
ALL = 10**9
IDS = {"train": "file-" + "a" * 26, "validation": "file-" + "b" * 26}
Rows = list[dict[str, Any]]
Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Data:
    """Rows of a published set, and the fields of a job that it asks for."""

    name: str
    train: Rows
    dev: Rows
    spec: dict[str, Any]


@dataclass(frozen=True)
class Timed:
    """A finished recipe and when it said what, in seconds by the chosen clock."""

    done: FinishedEvent
    timeline: list[tuple[float, Event]]

    def time_of(self, is_it: Callable[[Any], bool]) -> float:
        """Return when the last event of some kind came."""
        return max(at for at, event in self.timeline if is_it(event))

    def phase(self, name: str) -> float:
        """Return when a phase began last."""
        return self.time_of(lambda event: isinstance(event, PhaseEvent) and event.phase == name)

    @property
    def steps_s(self) -> float:
        """Seconds of the steps alone."""
        end = self.time_of(lambda e: isinstance(e, MetricsEvent) and "train/loss" in e.values)
        return end - self.phase("training")

    @property
    def whole_s(self) -> float:
        """Seconds from the first evaluation to the finished model's judgement, which is not counted."""
        return self.phase("evaluating") - self.time_of(lambda e: isinstance(e, ResolvedEvent))

    @property
    def quality(self) -> float:
        """The task's primary metric on the dev rows."""
        return self.done.metrics[f"validation/{self.done.report['primary_metric']}"]


def make_options(description: str | None, sets: Sequence[str], **defaults: Any) -> Any:
    """Return a parser with what all take: which rows, how they are trained on, by which clock."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=sets, default=sets[:1])
    parser.add_argument("--rows", type=int, default=None, help="training rows; all by default")
    parser.add_argument("--dev-rows", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--repeat", type=int, default=1, help="seeds")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.set_defaults(**defaults)
    return parser


def read(name: str, options: Any) -> Data:
    """Return rows of a set, the training rows in an order of their own."""
    if name != SHIPPED and not DATA.is_dir():
        sys.exit(f"{DATA} is not here; set ATTUNE_TEST_DATA or use --data {SHIPPED}")
    chosen = published_sets()[name]
    sides: list[Rows] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in (chosen.train, chosen.test):
            filename, content = chosen.content(part)
            path = Path(folder) / filename
            path.write_bytes(content)
            rows = read_dataset(path, filename, max_rows=ALL).rows
            sides.append([dict(row.values) for row in rows])
    train, dev = sides
    Random(0).shuffle(train)  # noqa: S311 - a subset, not a secret
    return Data(name, train[: options.rows], dev[: options.dev_rows], chosen.spec)


def make_spec(data: Data, options: Any, seed: int, **changes: Any) -> dict[str, Any]:
    """Return a job that trains at a fixed rate of steps and is judged before and after, nothing between."""
    steps = -(-len(data.train) // options.batch_size) * options.epochs
    optimization = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "warmup": 0.0,
        "weight_decay": 0.0,
    }
    runtime = {"evaluate_every": steps, "checkpoint_every": steps, "baselines": False, "seed": seed}
    own = {"kind": "fine_tune", "model": MODEL, "optimization": optimization, "runtime": runtime}
    return merged(data.spec, own, changes)


def run_timed(
    spec: dict[str, Any], data: Data, options: Any, *, model_dirs: Sequence[Path] = (),
    emit: Callable[[Event], None] = lambda _: None, models: Mapping[str, Path] | None = None,
    cache: Path | None = None, keep: Path | None = None,
) -> Timed:  # fmt: skip
    """Run the recipe of a job; `emit` gets every event, too; the model is moved to `keep`."""
    clock = CLOCKS[options.clock]
    timeline: list[tuple[float, Event]] = []

    def note(event: Event) -> None:
        timeline.append((clock(), event))
        emit(event)

    with tempfile.TemporaryDirectory() as name:
        spec = spec | {"data": spec.get("data", {}) | IDS}
        files = {
            IDS[part]: _written(Path(name), IDS[part], rows)
            for part, rows in (("train", data.train), ("validation", data.dev))
        }
        assignment = Assignment(
            job_id="job-0", epoch=1, model_id="ft:bench", spec=spec, files=files,
            folder=Path(name), model_dirs=[*model_dirs, *MODEL_DIRS], hub=False, lease_ttl_s=60,
            models=dict(models or {}), cache=cache,
        )  # fmt: skip
        done = run_recipe(assignment, parse_spec(spec), note, lambda: False)
        if keep is not None:
            shutil.move(done.folder, keep)
    return Timed(done, timeline)


def _written(folder: Path, file_id: str, rows: Rows) -> InputFile:
    path = folder / f"{file_id}.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n")
    return InputFile(id=file_id, filename=path.name, path=path, sha256=sha256_of(path))


def in_turns(
    variants: Mapping[str, Callable[[int], Figures]], repeat: int
) -> dict[str, list[Figures]]:
    """Run each variant with each seed, one after the other, and print what comes of it."""
    found: dict[str, list[Figures]] = {name: [] for name in variants}
    for seed in range(repeat):
        for name, run in variants.items():
            found[name].append(run(seed))
            print(f"  {name:28} {found[name][-1]}", flush=True)
    return found


def ratio(numbers: Sequence[float], others: Sequence[float]) -> float:
    """Return the median ratio of neighbours."""
    return statistics.median(a / b for a, b in zip(numbers, others, strict=True))


def quiet() -> None:
    """Keep transformers from reporting its progress between ours."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def heading(data: Data, options: Any) -> str:
    """Return what was run on what."""
    return (
        f"{data.name}: {len(data.train)} rows, {len(data.dev)} dev rows, {options.epochs} epochs; "
        f"{options.clock} time, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
