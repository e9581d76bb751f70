"""What a standby trainer does before anybody waits for it: import and touch all that a first step needs.

torch and transformers import much of themselves only when used (2 of the 4 seconds that a cold start
takes); a network of a few numbers, trained for one step and read back from disk, uses it.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from workers.training.device import make_deterministic

SIZE = 8


def warm_up() -> None:
    """Train a throw-away network on the CPU. The GPU stays untouched: a standby holds none of it."""
    make_deterministic()
    config = BertConfig(
        vocab_size=SIZE,
        hidden_size=SIZE,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=SIZE,
        max_position_embeddings=SIZE,
    )
    with TemporaryDirectory(prefix="attune-warmup-") as folder:
        fresh: Any = AutoModelForSequenceClassification.from_config(config)
        fresh.save_pretrained(Path(folder))
        network: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    ids = torch.ones((1, SIZE), dtype=torch.long)
    network(
        input_ids=ids, attention_mask=ids, labels=torch.zeros(1, dtype=torch.long)
    ).loss.backward()
    optimizer.step()
