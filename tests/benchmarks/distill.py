"""Distil a finished model over HTTP and print what the report compares: `docs/results.md` repeated.

    python -m tests.benchmarks.results sst2                       # prints the teacher's id
    python -m tests.benchmarks.distill sst2 --teacher ft:... --student '{"kind": "bilstm"}' \
        --augmentation '{"copies": 10}' --unlabeled reviews

Data, splits and evaluation set are those of `tests.benchmarks.results`; settings are chosen by figures on
validation rows, which `--blind` shows alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.results import client, figures, merged, run, upload
from tests.benchmarks.sets import PublishedSet, published_sets
from tests.published import DATA

PARTIES = ("teacher", "student_without_teacher", "student")
SENTENCE_END = re.compile(r"(?<= [.!?]) ")  # in texts whose signs stand by themselves
WORDS = range(4, 41)  # of a sentence that is taken


def _reviews() -> bytes:
    """Return the sentences of IMDB's training reviews: they look like SST-2's, and nobody labelled them."""
    path = DATA / "text_classification" / "imdb_1k" / "train.jsonl"
    reviews = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    found = {
        sentence.strip(): None
        for review in reviews
        for sentence in SENTENCE_END.split(review)
        if len(sentence.split()) in WORDS
    }
    return "\n".join(json.dumps({"text": sentence}) for sentence in found).encode()


UNLABELED: dict[str, Callable[[], bytes]] = {"reviews": _reviews}


def show(job: dict[str, Any], *, is_blind: bool) -> None:
    """Print teacher, student alone and student, on both sets."""
    report, resolved = job["report"], job["resolved"]["optimization"]
    found = report["distillation"]
    print(
        f"{job['model_id']}, {job['finished_at'] - job['started_at']} s, {report['steps']} steps of "
        f"{resolved['batch_size']}, best {report['best_step']}, lr {resolved['learning_rate']}, "
        f"rows {found['labelled']} + {found['unlabeled']} + {found['augmented']}"
    )
    for party in PARTIES:
        if party not in found:
            continue
        for split in ("validation",) if is_blind else ("validation", "test"):
            if split in found[party]:
                values = found[party][split]
                line = figures(values["metrics"], values["intervals"])
                print(f"  {party:23} {split:10} {line}")
        if "parameters" in found[party]:
            costs = {name: found[party][name] for name in ("parameters", "bytes", "texts_per_s")}
            print(f"  {party:23} {costs}, {found[party]['latency_ms']} ms")
    print(f"  kept: {found['kept'] if not is_blind else '-'}", flush=True)


def main() -> None:
    """Run one distillation for each student."""
    sets = published_sets()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("set", choices=sorted(sets))
    parser.add_argument(
        "--teacher", nargs="+", required=True, help="id of a finished model, or several"
    )
    parser.add_argument("--student", type=json.loads, nargs="+", required=True, help="JSON")
    parser.add_argument("--augmentation", type=json.loads, help="JSON")
    parser.add_argument("--unlabeled", choices=sorted(UNLABELED))
    parser.add_argument("--spec", type=json.loads, default={}, help="JSON of any other fields")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="do not look at the evaluation set")
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    given = parser.parse_args()
    http = client(given.home)
    chosen: PublishedSet = sets[given.set]
    data: dict[str, Any] = {}
    if given.augmentation is not None:
        data["augmentation"] = given.augmentation
    if given.unlabeled is not None:
        content = UNLABELED[given.unlabeled]()
        data["unlabeled"] = upload(http, f"{given.unlabeled}.jsonl", content)
    teacher = given.teacher[0] if len(given.teacher) == 1 else given.teacher
    for student in given.student:
        changes = merged(
            {
                "kind": "distill",
                "teacher": teacher,
                "student": student,
                "method": {"kind": "full"},
                "data": data,
                # A student's rate and epochs are not its teacher's.
                "optimization": {"learning_rate": "auto", "epochs": "auto"},
                "runtime": {"seed": given.seed},
            },
            given.spec,
        )
        print(f"{given.set} {json.dumps(student)} {json.dumps(given.spec)}", flush=True)
        show(run(http, given.set, chosen, changes), is_blind=given.blind)


if __name__ == "__main__":
    sys.exit(main())
