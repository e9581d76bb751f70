"""Hugging Face's side: `Trainer` as its examples use it, everything that is not compared at its default."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, TrainingArguments

from app.adapt.source import Sources
from tests.benchmarks.in_process import CLOCKS, Data
from tests.benchmarks.trainer_vs_hf.contests import Contest


def train(
    data: Data, contest: Contest, options: Any, folder: Path, seed: int
) -> tuple[float, float, float]:
    """Return the seconds of the steps and over all, and the quality on the dev rows."""
    torch.use_deterministic_algorithms(mode=False)
    transformers.set_seed(seed)
    base = Sources([folder], hub=False).resolve(contest.model).folder
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    labels = contest.labels(data.train)
    sides = [contest.encode(tokenizer, rows, labels) for rows in (data.train, data.dev)]
    clock = CLOCKS[options.clock]
    with tempfile.TemporaryDirectory() as output:
        trainer: Any = contest.trainer(
            model=contest.network(base, labels),
            args=arguments(options, output, loss_only=contest.judge is None),
            train_dataset=sides[0],
            eval_dataset=sides[1],
            data_collator=contest.collator(tokenizer),
            compute_metrics=contest.judge and contest.judge(labels),
        )
        start = clock()
        trainer.evaluate()
        begin = clock()
        trainer.train()
        end = clock()
        quality = trainer.evaluate()[f"eval_{contest.metric}"]
        return end - begin, clock() - start, quality


def arguments(options: Any, output: str, *, loss_only: bool) -> TrainingArguments:
    """Return what is compared, and silence."""
    return TrainingArguments(
        output_dir=output,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        prediction_loss_only=loss_only,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_strategy="no",
    )
