"""ROUGE of the first sentence of each source: what a summary of SciTLDR has to beat.

    python -m tests.benchmarks.lead

The first of the sentences that make up an abstract, judged by the code that judges a model's summaries.
"""

from __future__ import annotations

import json

from app.adapt.outputs import Encoded, Generated
from app.adapt.tasks.summarization.metrics import KINDS, SummaryMetrics
from tests.benchmarks.results import figures
from tests.published import DATA


def main() -> None:
    """Print the figures of the evaluation set."""
    path = DATA / "summarization" / "scitldr_a" / "dev.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    metrics = SummaryMetrics()
    answers = [[Generated(row["source"][0], [], "stop")] for row in rows]
    items = [Encoded([], extra={"references": row["target"]}) for row in rows]
    metrics.add_generated(answers, items)
    found = {name: value for name, value in metrics.compute().items() if name in KINDS}
    print(f"{len(rows)} rows: {figures(found, metrics.intervals())}")


if __name__ == "__main__":
    main()
