"""A teacher that answers once (ours) against one that runs beside its student in every epoch.

Both students see the same batches and the same answers, so they come out the same but for rounding; what
is counted begins before the teacher's first answer and ends after the student's last step. `warm` is a
second job of the same teacher and texts, which finds the answers.

    python -m tests.benchmarks.teacher_cache --data sst2 --rows 2000 --epochs 5 --repeat 3
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.benchmarks import in_process
from tests.benchmarks.in_process import Data, Timed
from workers.recipes import lesson

SETS = ["sst2", "banking", "trec"]
TEACHER = "ft:teacher"
# Both read the same tokens, so that a teacher can run beside its student.
STUDENTS: dict[str, Any] = {
    "bilstm": {"kind": "bilstm", "vocabulary": "teacher", "embeddings": "teacher"},
    "3 layers": {"kind": "layers_of_teacher", "keep": "even", "num_layers": 3},
}


@dataclass(frozen=True)
class Outcome:
    """Seconds of teaching and training, and the student's metric on the dev set."""

    seconds: float
    quality: float


def main() -> None:
    """Teach in all ways in turns and print a table."""
    parser = in_process.make_options(
        __doc__, SETS, rows=1000, dev_rows=200, epochs=5, learning_rate=1e-3
    )
    parser.add_argument("--student", choices=STUDENTS, default="bilstm")
    options = parser.parse_args()
    in_process.quiet()
    for name in options.data:
        data = in_process.read(name, options)
        print(in_process.heading(data, options))
        with tempfile.TemporaryDirectory() as folder:
            compare(data, options, Path(folder))


def compare(data: Data, options: Any, folder: Path) -> None:
    """Make the teacher, teach its students."""
    spec = in_process.make_spec(data, options, 0, method="linear_probe")
    taught = in_process.run_timed(spec, data, options, keep=folder / "teacher")
    print(f"  the teacher, a linear probe: {taught.quality:.4f}")
    found = in_process.in_turns(
        {
            "runs beside its student": partial(run, data, options, folder, "beside"),
            "answers once": partial(run, data, options, folder, "noted"),
            "has answered before": partial(run, data, options, folder, "warm"),
        },
        options.repeat,
    )
    first, *_ = found.values()
    for way, side in found.items():
        seconds = [outcome.seconds for outcome in side]
        gain = in_process.ratio([outcome.seconds for outcome in first], seconds)
        print(f"{way:24} {statistics.median(seconds):8.2f} s  {gain:.2f}  "
              f"quality {statistics.mean(outcome.quality for outcome in side):.4f}")  # fmt: skip


def run(data: Data, options: Any, folder: Path, way: str, seed: int) -> Outcome:
    """Teach one student; only `warm` finds answers, those of the `noted` one with its seed."""
    spec = in_process.make_spec(data, options, seed)
    del spec["model"]
    spec |= {"kind": "distill", "teacher": TEACHER, "student": STUDENTS[options.student]}
    wanted = "beside" if way == "beside" else "noted"
    with patch.object(lesson, "way_of", lambda *_: wanted):
        found = in_process.run_timed(
            spec, data, options, models={TEACHER: folder / "teacher"},
            cache=folder / ("none" if way == "beside" else f"answers-{seed}"),
        )  # fmt: skip
    return Outcome(_seconds(found), found.quality)


def _seconds(found: Timed) -> float:
    return found.phase("evaluating") - found.phase("teaching")


if __name__ == "__main__":
    main()
