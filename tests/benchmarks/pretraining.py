"""Full rows of a corpus against a row for each document, padded: tokens of text a second of the steps.

    python -m tests.benchmarks.pretraining --corpus wikitext2_valid --steps 60 --repeat 3

Both ways see the same corpus, network and number of rows a step. A padded row is short where its document
is, so that a second of it teaches fewer tokens; a ratio above 1 says that full rows are faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.benchmarks import in_process
from tests.benchmarks.in_process import CLOCKS, IDS, Timed
from tests.published import DATA
from workers.protocol import Assignment, Event, InputFile
from workers.recipes import run_recipe

CORPORA = {
    "wikitext2_valid": "corpus/wikitext2_valid/valid.txt",
    "pubmed_ncbi": "corpus/pubmed_ncbi/abstracts.jsonl",
    "tnews_zh": "corpus/tnews_unlabeled_zh/unlabeled.jsonl",
}
WAYS = {"padded": False, "full rows": True}
FAMILIES = {"masked_lm": "bert", "causal_lm": "gpt2", "span_corruption": "t5"}


def main() -> None:
    """Run both ways in turns, for each objective that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", choices=sorted(CORPORA), default="wikitext2_valid")
    parser.add_argument(
        "--objective", nargs="+", choices=sorted(FAMILIES), default=sorted(FAMILIES)
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=1, help="seeds")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    options = parser.parse_args()
    in_process.quiet()
    with tempfile.TemporaryDirectory() as folder:
        for objective in options.objective:
            runs = {
                way: partial(run, Path(folder), objective, options, packing)
                for way, packing in WAYS.items()
            }
            print(f"{options.corpus}, {objective}: {options.steps} steps, {options.clock} time")
            found = in_process.in_turns(runs, options.repeat)
            ratio = in_process.ratio(found["full rows"], found["padded"])
            medians = {way: statistics.median(speeds) for way, speeds in found.items()}
            print(f"{objective}: {medians} tokens/s, full rows : padded {ratio:.2f}", flush=True)


def run(folder: Path, objective: str, options: Any, packing: bool, seed: int) -> float:
    """Train once; return tokens a second, padding not counted."""
    path = DATA / CORPORA[options.corpus]
    spec = {
        "kind": "pretrain",
        "model": {"kind": FAMILIES[objective], "hidden_size": options.hidden_size, "num_heads": 2},
        "tokenizer": {"kind": "bpe", "vocabulary_size": 4_000},
        "objective": objective,
        "data": {"train": IDS["train"], "on_bad_rows": "skip"},
        "optimization": {
            "packing": packing,
            "max_steps": options.steps,
            "max_length": options.max_length,
            "batch_size": 16,
            "epochs": 100,
        },
        "runtime": {
            "seed": seed,
            "baselines": False,
            "evaluate_every": options.steps,
            "checkpoint_every": options.steps,
        },
    }
    clock = CLOCKS[options.clock]
    timeline: list[tuple[float, Event]] = []
    own = Path(tempfile.mkdtemp(dir=folder))
    file = InputFile(id=IDS["train"], filename=path.name, path=path, sha256=sha256_of(path))
    assignment = Assignment(
        job_id="job-0", epoch=1, model_id="ft:bench", spec=spec, files={IDS["train"]: file},
        folder=own, cache=folder / "cache", hub=False, lease_ttl_s=60,
    )  # fmt: skip
    done = run_recipe(
        assignment, parse_spec(spec), lambda event: timeline.append((clock(), event)), lambda: False
    )
    return done.report["trained_tokens"] / Timed(done, timeline).steps_s


if __name__ == "__main__":
    main()
