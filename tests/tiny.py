"""Model folders small enough to make in a test: a random BERT that real code loads like any other.

`make_model_folder` makes a base model, `make_finished_folder` one as if a job had made it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.adapt.task import Architecture
from app.store.durable import remove_folder
from app.store.manifest import Manifest, write_manifest

TEXTS = (
    "the film was a joy from start to end",
    "a dull plot and worse acting",
    "my card was stolen please block it",
    "where is my transfer",
    "good bad new old one two three",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_vocab(texts: Sequence[str]) -> dict[str, int]:
    """Return a WordPiece vocabulary: special tokens, characters both ways, whole words."""
    words = sorted({word for text in texts for word in text.lower().split()})
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz0123456789.,?!'-", *"".join(words)})
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def make_model_folder(
    path: Path, labels: Sequence[str] | None = None, *, texts: Sequence[str] = TEXTS,
    hidden: int = 32, layers: int = 2, max_positions: int = 64, seed: int = 0,
) -> Path:  # fmt: skip
    """Make a base model folder of random weights; with `labels` it has a classification head."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

    vocab = make_vocab(texts)
    names = list(labels or ["LABEL_0", "LABEL_1"])
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=max_positions,
        # Larger than usual, so that random weights tell texts apart.
        initializer_range=0.5,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BertModel(config) if labels is None else BertForSequenceClassification(config)
    path.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(path)
    BertTokenizer(vocab=vocab, model_max_length=max_positions).save_pretrained(path)
    return path


def make_base_folder(
    path: Path, architecture: Architecture, *, texts: Sequence[str] = TEXTS, seed: int = 0
) -> Path:
    """Make a base model folder of random weights of the kind that a task asks for."""
    if architecture == "encoder":
        return make_model_folder(path, texts=texts, seed=seed)
    from transformers import BertTokenizer

    vocab = make_vocab(texts)
    path.mkdir(parents=True, exist_ok=True)
    _make_generator(architecture, vocab, seed).save_pretrained(path)
    BertTokenizer(
        vocab=vocab, model_max_length=64, bos_token="[CLS]", eos_token="[SEP]"
    ).save_pretrained(path)
    return path


def _make_generator(architecture: Architecture, vocab: dict[str, int], seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    ids: dict[str, Any] = {
        "vocab_size": len(vocab),
        "pad_token_id": vocab["[PAD]"],
        "bos_token_id": vocab["[CLS]"],
        "eos_token_id": vocab["[SEP]"],
        "initializer_range": 0.5,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "decoder":
            return LlamaForCausalLM(
                LlamaConfig(
                    hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                    num_attention_heads=2, max_position_embeddings=64, **ids,
                )
            )  # fmt: skip
        return T5ForConditionalGeneration(
                T5Config(
                    d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0,
                    decoder_start_token_id=vocab["[PAD]"], **ids,
                )
            )  # fmt: skip


def make_finished_folder(
    path: Path, labels: Sequence[str] | None = ("bad", "good"), *,
    model_id: str = "ft:tiny:test:0000000000", task: dict[str, Any] | None = None,
    max_length: int = 32, texts: Sequence[str] = TEXTS, seed: int = 0, **sizes: int,
) -> tuple[Manifest, str]:  # fmt: skip
    """Make a finished model's folder; return its manifest with the manifest's SHA-256.

    `task` replaces fields of the fitted task config, which is single-label over `labels`;
    `labels` None means regression. An earlier folder at `path` is replaced.
    """
    remove_folder(path)
    width = ["score"] if labels is None else labels
    make_model_folder(path, width, texts=texts, seed=seed, **sizes)
    problem = "regression" if labels is None else "single_label"
    fitted: dict[str, Any] = {
        "kind": "text-classification",
        "problem": problem,
        "labels": None if labels is None else list(labels),
        "pair": False,
        "threshold": 0.5,
    }
    return _finish(path, model_id, fitted | (task or {}), max_length)


def make_generator_folder(
    path: Path, labels: None, *, model_id: str, architecture: Architecture, task: dict[str, Any],
    texts: Sequence[str] = TEXTS, seed: int = 0,
) -> tuple[Manifest, str]:  # fmt: skip
    """Make the folder of a finished model that writes text; `task` is its whole fitted config."""
    del labels
    remove_folder(path)
    make_base_folder(path, architecture, texts=texts, seed=seed)
    return _finish(path, model_id, task, 32)


def _finish(
    path: Path, model_id: str, task: dict[str, Any], max_length: int
) -> tuple[Manifest, str]:
    """Put a finished model's own files beside its weights."""
    facts: dict[str, Any] = {
        "model_id": model_id,
        "job_id": "job-0",
        "base": "tiny",
        "base_kind": "local",
        "revision": None,
        "task": task,
        "spec": {"kind": "fine_tune", "model": "tiny"},
        "resolved": {},
        "max_length": max_length,
        "metrics": {"validation/accuracy": 0.5},
        "report": {},
        "environment": {},
    }
    (path / "attune.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
    (path / "README.md").write_text(f"# {model_id}\n")
    return write_manifest(path, "model", facts)


def make_task_folder(
    path: Path, labels: None, *, model_id: str, task: dict[str, Any], texts: Sequence[str] = TEXTS,
    seed: int = 0,
) -> tuple[Manifest, str]:  # fmt: skip
    """Make the folder of a finished model of any task with random weights; `task` is its fitted config."""
    import torch
    from transformers import AutoTokenizer

    from app.adapt.plugins import TASKS

    del labels
    remove_folder(path)
    base = path.with_name(f"{path.name}-base")
    fitted = TASKS[task["kind"]].model_validate(task)
    make_base_folder(base, fitted.architecture, texts=texts, seed=seed)
    half = fitted.network()
    path.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        half.save(half.load(fitted, base), path)
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(path)
    remove_folder(base)
    return _finish(path, model_id, task, 32)
