"""Our loop against Hugging Face's Trainer with its defaults, in one run on one machine.

Same base model (all-MiniLM-L6-v2), rows, epochs, learning rate, batch size and seed; both evaluate before
and after. `train` counts the steps alone, `whole` the evaluations and what each of the two saves, too.

    python -m tests.benchmarks.trainer_vs_hf --data sst2 --rows 2000 --epochs 1 --repeat 2
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from app.adapt.source import Sources
from app.spec.job import parse_spec
from app.store.durable import sha256_of
from tests.published import DATA
from workers.protocol import (
    Assignment,
    Event,
    FinishedEvent,
    InputFile,
    MetricsEvent,
    PhaseEvent,
    ResolvedEvent,
)
from workers.recipes import run_recipe

ROOT = Path(__file__).resolve().parents[2]
MODEL = "all-MiniLM-L6-v2"
TRAIN, DEV = "file-" + "a" * 26, "file-" + "b" * 26
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Outcome:
    """Rows a second in the steps and over all, and the accuracy on the dev set."""

    train: float
    whole: float
    accuracy: float


def main() -> None:
    """Run both in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["banking", "sst2"], default="banking")
    parser.add_argument("--rows", type=int, default=None, help="training rows; all by default")
    parser.add_argument("--dev-rows", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    train, dev = read(options.data, options.rows, options.dev_rows)
    count = len(train) * options.epochs
    print(f"{options.data}: {len(train)} rows, {len(dev)} dev rows, {options.epochs} epochs; "
          f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"transformers {transformers.__version__}")  # fmt: skip
    ours, theirs = [], []
    for seed in range(options.repeat):
        ours.append(run_ours(train, dev, options, seed, count))
        print("attune    ", ours[-1], flush=True)
        theirs.append(run_theirs(train, dev, options, seed, count))
        print("hf trainer", theirs[-1], flush=True)
    for name in ("train", "whole", "accuracy"):
        a, b = (statistics.median(getattr(o, name) for o in side) for side in (ours, theirs))
        unit = "" if name == "accuracy" else " rows/s"
        print(f"{name:9} attune {a:8.3f}{unit}  hf trainer {b:8.3f}{unit}  ratio {a / b:.2f}")


def read(name: str, limit: int | None, dev_limit: int | None) -> tuple[Rows, Rows]:
    """Return training and dev rows of a set."""
    if name == "banking":
        folder = ROOT / "examples" / "banking"
        sets = [
            [(row["text"], row["label"]) for row in map(json.loads, path.open(encoding="utf-8"))]
            for path in (folder / "train.jsonl", folder / "test.jsonl")
        ]
    else:
        folder = DATA / "text_classification" / "sst2"
        if not folder.is_dir():
            sys.exit(f"{folder} is not here; set ATTUNE_TEST_DATA or use --data banking")
        sets = []
        for path in (folder / "train.tsv", folder / "dev.tsv"):
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                sets.append([(row[0], row[1]) for row in reader if row[1] in {"0", "1"}])
    train, dev = sets
    random.Random(0).shuffle(train)  # noqa: S311 - a subset, not a secret
    return train[:limit], dev[:dev_limit]


def run_ours(train: Rows, dev: Rows, options: Any, seed: int, count: int) -> Outcome:
    """Train with the recipe that a job runs, its events timed."""
    steps = -(-len(train) // options.batch_size) * options.epochs
    spec = {
        "kind": "fine_tune",
        "model": MODEL,
        "task": "text-classification",
        "data": {"train": TRAIN, "validation": DEV},
        "optimization": {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "warmup": 0.0,
            "weight_decay": 0.0,
        },
        "runtime": {"seed": seed, "evaluate_every": steps, "checkpoint_every": steps},
    }
    times: dict[str, float] = {}

    def note(event: Event) -> None:
        now = perf_counter()
        match event:
            case ResolvedEvent():
                times["begin"] = now
            case PhaseEvent(phase=phase):
                times[phase] = now
            case MetricsEvent(values=values) if "train/loss" in values:
                times["last step"] = now
            case _:
                pass

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {}
        for file_id, rows in ((TRAIN, train), (DEV, dev)):
            path = folder / f"{file_id}.jsonl"
            path.write_text("\n".join(json.dumps({"text": t, "label": v}) for t, v in rows) + "\n")
            files[file_id] = InputFile(
                id=file_id, filename=path.name, path=path, sha256=sha256_of(path)
            )
        assignment = Assignment(
            job_id="job-0", epoch=1, model_id="ft:bench", spec=spec, files=files,
            folder=folder, hub=False, lease_ttl_s=60,
        )  # fmt: skip
        done: FinishedEvent = run_recipe(assignment, parse_spec(spec), note, lambda: False)
    return Outcome(
        train=count / (times["last step"] - times["training"]),
        whole=count / (times["evaluating"] - times["begin"]),
        accuracy=done.metrics["validation/accuracy"],
    )


def run_theirs(train: Rows, dev: Rows, options: Any, seed: int, count: int) -> Outcome:
    """Train with `transformers.Trainer`, everything that is not compared left at its default."""
    torch.use_deterministic_algorithms(mode=False)
    transformers.set_seed(seed)
    folder = Sources([], hub=False).resolve(MODEL).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = sorted({label for _, label in train})
    network = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))

    def encoded(rows: Rows) -> list[dict[str, Any]]:
        batch = tokenizer([text for text, _ in rows], truncation=True)
        return [
            {name: values[i] for name, values in batch.items()}
            | {"label": labels.index(rows[i][1])}
            for i in range(len(rows))
        ]

    with tempfile.TemporaryDirectory() as name:
        trainer = Trainer(
            model=network,
            args=TrainingArguments(
                output_dir=name,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=options.batch_size,
                per_device_eval_batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=torch.cuda.is_available(),
                logging_strategy="no",
            ),
            train_dataset=encoded(train),
            eval_dataset=encoded(dev),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {
                "accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())
            },
        )
        start = perf_counter()
        trainer.evaluate()
        begin = perf_counter()
        trainer.train()
        end = perf_counter()
        accuracy = trainer.evaluate()["eval_accuracy"]
        return Outcome(count / (end - begin), count / (perf_counter() - start), accuracy)


if __name__ == "__main__":
    main()
