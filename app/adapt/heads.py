"""The tasks of a model that has several: loaded around one encoder, or taken out as models of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from app.adapt.plugins import AnyTask
from app.adapt.task import Task
from app.adapt.tokenizers import Tokenizers
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from torch import nn

_TASK: TypeAdapter[Task] = TypeAdapter(AnyTask)


def load_heads(
    folder: Path, facts: dict[str, Any], names: Sequence[str] | None = None
) -> dict[str, tuple[Task, nn.Module, int]]:
    """Return task, network and longest input of each task, or of those that are named.

    `facts` are those of the folder.

    Raises:
        pydantic.ValidationError: a task is of another version of Attune.
        CorruptFolder: weights are missing.
    """
    from app.adapt.layers.shared_trunk import load_part, load_trunk

    trunk = load_trunk(folder)
    found: dict[str, tuple[Task, nn.Module, int]] = {}
    for name in facts["tasks"] if names is None else names:
        described = facts["tasks"][name]
        task = _TASK.validate_python(described["task"])
        model_class = cast("Any", task.network()).model_class
        network = load_part(folder, name, model_class, trunk)
        found[name] = (task, network, int(described["max_length"]))
    return found


def export(folder: Path, name: str, target: Path) -> None:
    """Write one task of a model as a model folder of its own, which plain transformers loads.

    Raises:
        InvalidRequest: the model does not do that.
    """
    facts: dict[str, Any] = json.loads((folder / "attune.json").read_bytes())
    described: dict[str, Any] = facts.get("tasks", {})
    if name not in described:
        names = ", ".join(sorted(described)) or "one task only"
        message = f"task: this model has no {name!r}; it does: {names}"
        raise InvalidRequest(message, param="task")
    task, network, _ = load_heads(folder, facts, [name])[name]
    target.mkdir(parents=True, exist_ok=True)
    task.network().save(network, target)
    Tokenizers.load(folder).save(target)
