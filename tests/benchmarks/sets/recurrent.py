"""Recurrent networks made for the job: what they learn without a teacher, Chinese read by characters.

The vectors of the Chinese ones come from `tests.benchmarks.char_vectors`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.benchmarks.sets import PublishedSet, text_classification, token_classification

ENGLISH = {"kind": "bilstm", "embeddings": "all-MiniLM-L6-v2", "embedding_size": 128}
CHINESE = {"kind": "bilstm", "embeddings": "tencent-char-zh"}


def _made(chosen: PublishedSet, model: dict[str, Any], **optimization: Any) -> PublishedSet:
    """Return a set whose job makes its network."""
    rates = {"learning_rate": 1e-3, "epochs": 10}
    spec = {**chosen.spec, "model": model, "optimization": rates | optimization}
    return replace(chosen, spec=spec)


SETS = {
    "sst2_bilstm": _made(text_classification.SETS["sst2"], ENGLISH),
    "trec_bilstm": _made(text_classification.SETS["trec"], ENGLISH),
    "htl_zh_bilstm": _made(text_classification.SETS["htl_zh"], CHINESE, max_length=256),
    "thucnews_zh_bilstm": _made(text_classification.SETS["thucnews_zh"], CHINESE),
    "cluener_zh_bilstm": _made(
        token_classification.SETS["cluener_zh"], {**CHINESE, "num_layers": 2}
    ),
}
