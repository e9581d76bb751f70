"""What each kind of task asks of Hugging Face's Trainer: network, encoding, collator, metric.

Encoding and metrics are those of transformers' own examples (run_glue, run_ner, run_translation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqeval.metrics import f1_score
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
)

from tests.benchmarks import small_t5
from tests.benchmarks.in_process import MODEL, Rows

IGNORED = -100


@dataclass(frozen=True)
class Contest:
    """`labels`, `encode` and `network` make what the Trainer takes; without `judge` the loss is judged."""

    metric: str
    labels: Callable[[Rows], list[str]]
    encode: Callable[[Any, Rows, list[str]], list[dict[str, Any]]]
    network: Callable[[Path, list[str]], Any]
    collator: Callable[[Any], Any]
    judge: Callable[[list[str]], Callable[[Any], dict[str, float]]] | None = None
    trainer: Any = Trainer
    model: str = MODEL
    is_written: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # of our job


def classes(rows: Rows) -> list[str]:
    return sorted({str(row["label"]) for row in rows})


def encode_texts(tokenizer: Any, rows: Rows, labels: list[str]) -> list[dict[str, Any]]:
    batch = tokenizer([row["text"] for row in rows], truncation=True)
    return [
        {name: values[at] for name, values in batch.items()}
        | {"label": labels.index(str(row["label"]))}
        for at, row in enumerate(rows)
    ]


def accuracy(labels: list[str]) -> Callable[[Any], dict[str, float]]:
    del labels
    return lambda found: {
        "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
    }


def tags(rows: Rows) -> list[str]:
    return sorted({tag for row in rows for tag in row["tags"]})


def encode_words(tokenizer: Any, rows: Rows, labels: list[str]) -> list[dict[str, Any]]:
    """Give each word's tag to its first piece."""
    words = [row["tokens"] for row in rows]
    batch = tokenizer(words, truncation=True, is_split_into_words=True)
    made: list[dict[str, Any]] = []
    for at, row in enumerate(rows):
        targets, before = [], None
        for word in batch.word_ids(at):
            is_first = word is not None and word != before
            targets.append(labels.index(row["tags"][word]) if is_first else IGNORED)
            before = word
        made.append({name: values[at] for name, values in batch.items()} | {"labels": targets})
    return made


def span_f1(labels: list[str]) -> Callable[[Any], dict[str, float]]:
    def judge(found: Any) -> dict[str, float]:
        sides: tuple[list[Any], list[Any]] = ([], [])
        for best, targets in zip(found.predictions.argmax(-1), found.label_ids, strict=True):
            counts = targets != IGNORED
            for side, ids in zip(sides, (targets, best), strict=True):
                side.append([labels[at] for at in ids[counts]])
        return {"f1": float(f1_score(*sides))}

    return judge


def encode_pairs(tokenizer: Any, rows: Rows, labels: list[str]) -> list[dict[str, Any]]:
    del labels
    sources, targets = ([row[name] for row in rows] for name in ("en", "de"))
    batch = tokenizer(sources, text_target=targets, truncation=True)
    return [{name: values[at] for name, values in batch.items()} for at in range(len(rows))]


CONTESTS = {
    "sst2": Contest(
        metric="accuracy",
        labels=classes,
        encode=encode_texts,
        network=lambda base, labels: AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=len(labels)
        ),
        collator=DataCollatorWithPadding,
        judge=accuracy,
    ),
    "ncbi": Contest(
        metric="f1",
        labels=tags,
        encode=encode_words,
        network=lambda base, labels: AutoModelForTokenClassification.from_pretrained(
            base, num_labels=len(labels)
        ),
        collator=DataCollatorForTokenClassification,
        judge=span_f1,
    ),
    "multi30k": Contest(
        metric="loss",
        labels=lambda rows: [],
        encode=encode_pairs,
        network=lambda base, labels: AutoModelForSeq2SeqLM.from_pretrained(base),
        collator=DataCollatorForSeq2Seq,
        model=small_t5.NAME,
        is_written=True,
        # Both begin with the weights in the folder, random as they are; answers are not compared.
        changes={"transfer": "parameters", "task": {"decoding": {"num_beams": 1, "max_new_tokens": 4}}},
    ),
}  # fmt: skip
