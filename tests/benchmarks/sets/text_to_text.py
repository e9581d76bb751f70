"""Translation and summarization: Multi30k en-de, SciTLDR.

The base is one that `python -m tests.benchmarks.small_t5 FOLDER` makes; it has no weights worth keeping,
so these jobs have transfer "structure". `ATTUNE_MODEL_DIRS` of the server names its folder.
"""

from __future__ import annotations

from tests.benchmarks.sets import PublishedSet

MULTI30K = "translation/multi30k_en_de"

SETS = {
    "multi30k": PublishedSet(
        f"{MULTI30K}/train.jsonl",
        f"{MULTI30K}/test_2016_flickr.jsonl",
        {
            "task": {
                "kind": "translation",
                "source_language": "en",
                "target_language": "de",
                "decoding": {"num_beams": 4, "max_new_tokens": 48},
            },
            "transfer": "structure",
            "optimization": {"epochs": 8, "batch_size": 64, "learning_rate": 1e-3},
            "runtime": {"evaluate_every": 454},
        },
        validation=f"{MULTI30K}/val.jsonl",
        models=("small-t5-en-de",),
    ),
    "scitldr": PublishedSet(
        "summarization/scitldr_a/train.jsonl",
        "summarization/scitldr_a/dev.jsonl",
        {
            "task": {"kind": "summarization", "decoding": {"num_beams": 4, "max_new_tokens": 48}},
            "transfer": "structure",
            "optimization": {"epochs": 10, "learning_rate": 1e-3},
        },
        models=("small-t5-en-de",),
    ),
}
