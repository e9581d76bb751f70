"""Checkpoints: a power cut leaves either nothing or all of one, and only intact ones are read.

step-00000030/    network.safetensors  optimizer.safetensors  state.json  manifest.json  shell/
                  learned.safetensors, where losses have learned something themselves

`shell` is a copy of what the run has beside its checkpoints: a model folder without weights (config,
tokenizer), which makes of a checkpoint something that another job can start from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from app.adapt.source import SHELL
from app.store.durable import publish_folder, remove_folder, temporary_folder
from app.store.manifest import CorruptFolder, verify_folder, write_manifest
from workers.protocol import CheckpointEvent, CheckpointRef, QuarantineEvent
from workers.training.report import Report
from workers.training.state import TrainState, load_optimizer, network_tensors, optimizer_tensors

KIND = "checkpoint"
NETWORK = "network.safetensors"
OPTIMIZER = "optimizer.safetensors"
LEARNED = "learned.safetensors"
STATE = "state.json"
SCALER = "scaler"


@dataclass(frozen=True)
class Trained:
    """What a training moves: the network, what its losses learn themselves, and the optimizer of both."""

    network: nn.Module
    learned: nn.Module
    optimizer: Optimizer


def save(
    folder: Path, trained: Trained, state: TrainState, *, scaler: dict[str, Any], is_best: bool
) -> CheckpointEvent:
    """Write one checkpoint under `folder` and return its event; it is durable when this returns."""
    final = folder / f"step-{state.total_steps:08d}"
    remove_folder(final)  # a run that died between the rename and its event left this behind
    temporary = temporary_folder(final)
    shell = folder.parent / SHELL
    tensors, values = optimizer_tensors(trained.optimizer)
    save_file(network_tensors(trained.network), temporary / NETWORK)
    learned = network_tensors(trained.learned)
    if learned:
        save_file(learned, temporary / LEARNED)
    save_file(tensors, temporary / OPTIMIZER)
    content = {"state": state.model_dump(), "optimizer": values, SCALER: scaler}
    (temporary / STATE).write_text(json.dumps(content, sort_keys=True))
    if shell.is_dir():
        shutil.copytree(shell, temporary / SHELL)
    facts = {"step": state.total_steps, "metrics": state.metrics}
    manifest, digest = write_manifest(temporary, KIND, facts)
    publish_folder(temporary, final)
    return CheckpointEvent(
        step=state.total_steps,
        folder=final,
        manifest_sha256=digest,
        bytes=manifest.total_bytes,
        metrics=state.metrics,
        is_best=is_best,
    )


def restore(
    candidates: Sequence[CheckpointRef], trained: Trained, report: Report
) -> tuple[TrainState, dict[str, Any]] | None:
    """Load the newest intact checkpoint; each damaged one is reported and passed over."""
    for candidate in candidates:
        try:
            verify_folder(candidate.folder, candidate.manifest_sha256)
        except CorruptFolder as error:
            report.emit(QuarantineEvent(checkpoint_id=candidate.id, reason=error.message))
            continue
        content = json.loads((candidate.folder / STATE).read_text())
        load_network(trained.network, candidate.folder)
        if (candidate.folder / LEARNED).is_file():
            trained.learned.load_state_dict(load_file(candidate.folder / LEARNED))
        load_optimizer(
            trained.optimizer, load_file(candidate.folder / OPTIMIZER), content["optimizer"]
        )
        return TrainState.model_validate(content["state"]), content[SCALER]
    if candidates:
        report.log("No intact checkpoint is left; training starts from the beginning", "warning")
    return None


def newest_state(candidates: Sequence[CheckpointRef]) -> TrainState | None:
    """Return the state of the newest intact checkpoint, without its weights."""
    for candidate in candidates:
        try:
            verify_folder(candidate.folder, candidate.manifest_sha256)
        except CorruptFolder:
            continue
        return TrainState.model_validate(
            json.loads((candidate.folder / STATE).read_text())["state"]
        )
    return None


def load_best(network: nn.Module, best: tuple[Path, str] | None) -> None:
    """Put the weights of the best checkpoint, given as folder and digest, into `network`.

    Raises:
        CorruptFolder: it is not known any more, or not intact.
    """
    if best is None:
        message = "its checkpoint is not on record"
        raise CorruptFolder(message)
    verify_folder(*best)
    load_network(network, best[0])


def load_network(network: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into a network of the same shape."""
    tensors: dict[str, Tensor] = load_file(folder / NETWORK)
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    tied = set(network.state_dict()) - set(network_tensors(network))
    if unexpected or set(missing) - tied:
        message = f"{folder.name}: the checkpoint is of another network"
        raise CorruptFolder(message)
