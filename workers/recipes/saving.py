"""A finished model's folder: what `save_pretrained` writes, our facts beside it, a card, a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.adapt.dataset import Prepared
from app.adapt.source import Source
from app.adapt.tokenizers import Tokenizers
from app.models.card import model_card
from app.spec.training import Stepwise
from app.store.durable import publish_folder, remove_folder, temporary_folder
from app.store.manifest import write_manifest
from workers.protocol import Assignment, FinishedEvent
from workers.recipes.sources import Loaded, facts_of
from workers.training.course import Setup
from workers.training.device import environment
from workers.training.evaluate import Evaluation

KIND = "model"


def save_model(
    assignment: Assignment, setup: Setup, loaded: Loaded, prepared: Prepared,
    evaluations: dict[str, Evaluation], report: dict[str, Any],
) -> FinishedEvent:  # fmt: skip
    """Write the folder durably and describe it; the supervisor makes it the job's model."""
    metrics = {
        f"{split}/{name}": value
        for split, result in evaluations.items()
        for name, value in result.metrics.items()
    }
    facts = _described(assignment, setup, loaded, prepared)
    facts |= {"metrics": metrics, "report": report}

    def fill(folder: Path) -> None:
        setup.stage.task.network().save(setup.stage.network.to("cpu"), folder)
        loaded.tokenizers.save(folder)

    return write_model(assignment, facts, fill)


def write_model(
    assignment: Assignment, facts: dict[str, Any], fill: Callable[[Path], None]
) -> FinishedEvent:
    """Write a folder durably, with `facts` beside what `fill` puts there: weights, tokenizer."""
    metrics, report = facts["metrics"], facts["report"]
    final = assignment.folder / "model"
    remove_folder(final)
    folder = temporary_folder(final)
    fill(folder)
    (folder / "attune.json").write_text(json.dumps(facts, indent=2, sort_keys=True))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, sort_keys=True))
    (folder / "README.md").write_text(model_card(facts))
    manifest, digest = write_manifest(folder, KIND, facts)
    publish_folder(folder, final)
    return FinishedEvent(
        folder=final,
        manifest_sha256=digest,
        manifest=manifest.model_dump(mode="json"),
        metrics=metrics,
        report=report,
        bytes=manifest.total_bytes,
    )


def write_shell(network: Any, tokenizers: Tokenizers, shell: Path) -> None:
    """Write what checkpoints need beside their weights to be models: config and tokenizers."""
    shell.mkdir(exist_ok=True)
    network.config.save_pretrained(shell)
    generation: Any = getattr(network, "generation_config", None)
    if generation is not None:
        generation.save_pretrained(shell)
    tokenizers.save(shell)


def _described(
    assignment: Assignment, setup: Setup, loaded: Loaded, prepared: Prepared
) -> dict[str, Any]:
    """Return what the model is and where it comes from."""
    network, device = setup.stage.network, setup.stage.device
    return origin_of(assignment, setup.spec, loaded, network, device) | {
        "task": prepared.task.model_dump(mode="json"),
        "pipeline": prepared.task.pipeline,
        "example_input": prepared.task.example_input(),
        "cautions": prepared.task.cautions(),
        "columns": prepared.columns,
        "max_length": int(setup.spec.optimization.max_length),
    }


def origin_of(
    assignment: Assignment, resolved: Stepwise, loaded: Loaded, network: nn.Module,
    device: torch.device,
) -> dict[str, Any]:  # fmt: skip
    """Return where a model of any kind comes from: its job, its source, the spec that it was made by."""
    source = loaded.source
    return {
        "model_id": assignment.model_id,
        "job_id": assignment.job_id,
        "lineage": lineage_of(loaded),
        "base": source.id,
        "base_kind": source.kind,
        "revision": source.revision,
        "weights_sha256": source.sha256,
        "files": {file.id: file.sha256 for file in assignment.files.values()},
        "spec": assignment.spec,
        "resolved": resolved.model_dump(mode="json"),
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "environment": environment(device),
    }


def lineage_of(loaded: Loaded) -> list[dict[str, Any]]:
    """Return what the model descends from, the oldest first; further encoders come after the first."""
    taught = [
        entry | {"role": "teacher"} for source in loaded.teachers for entry in _line(source)[-1:]
    ]
    found = [entry for source in (loaded.source, *loaded.further) for entry in _line(source)]
    found = [*taught, *found]
    return [entry for at, entry in enumerate(found) if entry not in found[:at]]


def _line(source: Source) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "id": source.id,
        "kind": source.kind,
        "revision": source.revision,
        "weights_sha256": source.sha256,
    }
    facts = facts_of(source.folder) if source.kind == "finished" else {}
    entry |= {"job_id": facts.get("job_id"), "task": facts.get("task", {}).get("kind")}
    known = {name: value for name, value in entry.items() if value is not None}
    return [*facts.get("lineage", []), known]
