"""Pretraining from random weights on a published corpus, and what a linear probe gains by it.

    attune up --detach
    python -m tests.benchmarks.scratch wikitext2 --probe trec --spec '{"optimization": {"epochs": 20}}'

The probe is fitted on the set's training rows and judged on its evaluation rows, once on the network as it
was drawn and once as it was pretrained. Sets and server are those of `tests.benchmarks.results`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks.results import client, figures, finished, merged, upload
from tests.benchmarks.sets import published_sets
from tests.published import DATA

CORPORA = {
    "wikitext2": ("corpus/wikitext2_valid/valid.txt", {"documents": "paragraphs"}),
    "pubmed": ("corpus/pubmed_ncbi/abstracts.jsonl", {}),
    "tnews_zh": ("corpus/tnews_unlabeled_zh/unlabeled.jsonl", {}),
}
NETWORK = {"kind": "bert", "hidden_size": 128, "num_layers": 2, "num_heads": 2, "max_length": 128}


def main() -> None:
    """Run one job and print what came of it."""
    sets = published_sets()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument("--probe", choices=sorted(sets))
    parser.add_argument("--home", type=Path, default=Path.home() / ".attune")
    parser.add_argument("--spec", type=json.loads, default={}, help="JSON of any further fields")
    arguments = parser.parse_args()
    http = client(arguments.home)
    path, given = CORPORA[arguments.corpus]
    spec: dict[str, Any] = {
        "kind": "pretrain",
        "model": NETWORK,
        "objective": {"kind": "masked_lm"},
        "data": {"train": upload(http, Path(path).name, (DATA / path).read_bytes()), **given},
    }
    if arguments.probe is not None:
        chosen = sets[arguments.probe]
        files = {
            name: upload(http, *chosen.content(content))
            for name, content in (("train", chosen.train), ("test", chosen.test))
            if content is not None
        }
        data = merged(files, chosen.spec.get("data", {}))
        spec["probe"] = {"task": chosen.spec["task"], "data": data}
    job = finished(http, merged(spec, arguments.spec))
    report = job["report"]
    said = report["evaluation"]["validation"]
    print(f"{job['model_id']}, {job['finished_at'] - job['started_at']} s, {report['steps']} steps")
    print(f"  before  {figures(report['before'], {})}")
    print(f"  after   {figures(said['metrics'], said['intervals'])}")
    print(f"  {json.dumps(report['pretraining'])}")
    if "probe" in report:
        print(f"  probe   {json.dumps(report['probe'], indent=2)}")


if __name__ == "__main__":
    main()
