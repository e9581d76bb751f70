"""Named entities: NCBI-disease, WNUT-17 and CLUENER (Chinese)."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks.sets import PublishedSet
from tests.published import DATA

TASK: dict[str, Any] = {"task": "token-classification"}


def _cluener(part: str) -> bytes:
    """Return texts with spans; the set nests them by label and text and counts the last character in."""
    lines: list[str] = []
    for line in (DATA / "ner" / "cluener_zh" / f"{part}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        spans = [
            {"start": start, "end": end + 1, "label": label}
            for label, names in row["label"].items()
            for places in names.values()
            for start, end in places
        ]
        lines.append(json.dumps({"text": row["text"], "spans": spans}, ensure_ascii=False))
    return "\n".join(lines).encode()


SETS = {
    "ncbi": PublishedSet(
        "ner/ncbi_disease/train.conll",
        "ner/ncbi_disease/test.conll",
        {**TASK, "optimization": {"epochs": 5}},
    ),
    "wnut17": PublishedSet(
        "ner/wnut17/train.conll",
        "ner/wnut17/test.conll",
        {**TASK, "optimization": {"epochs": 5}},
        validation="ner/wnut17/dev.conll",
    ),
    "cluener_zh": PublishedSet(
        lambda: _cluener("train"),
        lambda: _cluener("dev"),
        {**TASK, "data": {"on_bad_rows": "skip"}},
        name="cluener.jsonl",
    ),
}
