"""Domain-adaptive pretraining: a base goes on reading abstracts before it learns to tag diseases in them.

    attune up --detach
    python -m tests.benchmarks.domain --spec '{"optimization": {"epochs": 5}}'

The abstracts are those of the NCBI-disease training set without their tags. Beside it the same base learns
the same tags without them. Sets, server and held-out rows are those of `tests.benchmarks.results`. Source:
Gururangan et al. 2020 (arXiv 2004.10964), who call it task-adaptive where the texts are the task's own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks.results import client, figures, finished, merged, run, show, upload
from tests.benchmarks.sets import published_sets
from tests.published import DATA

CORPUS = "corpus/pubmed_ncbi/abstracts.jsonl"
SET = "ncbi"


def main() -> None:
    """Run three jobs: the pretraining, and the tagger on both bases."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    parser.add_argument("--pretrain", type=json.loads, default={}, help="JSON of further fields")
    parser.add_argument("--spec", type=json.loads, default={}, help="JSON of the taggers' fields")
    arguments = parser.parse_args()
    http, chosen = client(arguments.home), published_sets()[SET]
    corpus = upload(http, "abstracts.jsonl", (DATA / CORPUS).read_bytes())
    spec: dict[str, Any] = {
        "kind": "pretrain",
        "model": chosen.models[0],
        "objective": {"kind": "masked_lm", "whole_word": True},
        "data": {"train": corpus},
        "suffix": "abstracts",
    }
    job = finished(http, merged(spec, arguments.pretrain))
    said = job["report"]["evaluation"]["validation"]
    print(f"pretraining: {job['model_id']}, {job['finished_at'] - job['started_at']} s")
    print(f"  before     {figures(job['report']['before'], {})}")
    print(f"  after      {figures(said['metrics'], said['intervals'])}", flush=True)
    for model in (chosen.models[0], job["model_id"]):
        show(f"{SET} on {model}", run(http, SET, chosen, {**arguments.spec, "model": model}))


if __name__ == "__main__":
    main()
