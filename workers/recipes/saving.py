"""A finished model's folder: what `save_pretrained` writes, our facts beside it, a card, a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from app.adapt.dataset import Prepared
from app.models.card import model_card
from app.store.durable import publish_folder, remove_folder, temporary_folder
from app.store.manifest import write_manifest
from workers.protocol import Assignment, FinishedEvent
from workers.training.device import environment
from workers.training.evaluate import Evaluation
from workers.training.loop import Setup

if TYPE_CHECKING:
    from workers.recipes.fine_tune import Loaded

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
    source = loaded.source
    facts: dict[str, Any] = {
        "model_id": assignment.model_id,
        "job_id": assignment.job_id,
        "base": source.id,
        "base_kind": source.kind,
        "revision": source.revision,
        "weights_sha256": source.sha256,
        "files": {file.id: file.sha256 for file in assignment.files.values()},
        "task": prepared.task.model_dump(mode="json"),
        "pipeline": prepared.task.pipeline,
        "example_input": prepared.task.example_input(),
        "cautions": prepared.task.cautions(),
        "spec": assignment.spec,
        "resolved": setup.spec.model_dump(mode="json"),
        "columns": prepared.columns,
        "max_length": int(setup.spec.optimization.max_length),
        "num_parameters": sum(p.numel() for p in setup.stage.network.parameters()),
        "metrics": metrics,
        "report": report,
        "environment": environment(setup.stage.device),
    }
    final = assignment.folder / "model"
    remove_folder(final)
    folder = temporary_folder(final)
    setup.stage.task.network().save(setup.stage.network.to("cpu"), folder)
    cast("Any", loaded.tokenizer).save_pretrained(folder)
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
