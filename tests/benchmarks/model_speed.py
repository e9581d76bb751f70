"""Classifiers against each other in texts per second of processor time: a student and its teacher.

    python -m tests.benchmarks.model_speed sst2 FOLDER FOLDER ...

The folders are those of finished models (`store/models/...` of a home). One thread, tokenizing included,
the texts of a set's evaluation file: in batches of like length, and one by one. Rounds of all models take
turns; the ratio is to the first one's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

import app.adapt.architectures  # noqa: F401 - registers our networks
from tests.benchmarks.sets.few_shot import FILES, rows_of

TEXTS = 512
SINGLES = 64
BATCH = 32
LENGTH = 128
ROUNDS = 3


@torch.inference_mode()
def seconds(network: Any, tokenizer: Any, batches: Sequence[Sequence[str]]) -> float:
    """Return the processor time of answering these batches."""
    begun = time.process_time()
    for texts in batches:
        given = tokenizer(
            list(texts), padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        network(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    return time.process_time() - begun


def loaded(folder: Path) -> Callable[[Sequence[Sequence[str]]], float]:
    """Return how long the model of a folder takes for some batches."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    weights = sum(p.numel() for p in network.parameters())
    print(f"{folder.name}: {network.config.model_type}, {weights:,} weights", flush=True)
    return lambda batches: seconds(network, tokenizer, batches)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("set", choices=sorted(FILES))
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    texts = sorted((row["text"] for row in rows_of(FILES[given.set][1])[:TEXTS]), key=len)
    batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
    singles = [[text] for text in texts[:: len(texts) // SINGLES]]
    models = [loaded(folder) for folder in given.folders]
    for model in models:
        model(batches[:2])  # the first call is slower
    for title, work in (("batches", batches), ("one by one", singles)):
        count = sum(map(len, work))
        rounds = [[count / model(work) for model in models] for _ in range(ROUNDS)]
        speeds = [statistics.median(column) for column in zip(*rounds, strict=True)]
        shown = ", ".join(f"{speed:,.0f} texts/s ({speed / speeds[0]:.1f})" for speed in speeds)
        print(f"{title}: {shown}")


if __name__ == "__main__":
    main()
