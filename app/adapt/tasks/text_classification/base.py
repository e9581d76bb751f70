"""What the head of a base model that classifies texts already says of itself. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from app.errors import InvalidSpec

PROBLEMS: dict[str, Literal["single_label", "multi_label", "regression"]] = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}


def head_of(
    config: Mapping[str, Any], given: Sequence[str] | None
) -> tuple[Literal["single_label", "multi_label", "regression"], list[str] | None]:
    """Return problem and labels of a model's head, of its `config.json`; `given` are the job's labels.

    Raises:
        InvalidSpec: it has no such head, its classes have no names, or others than the job says.
    """
    architectures: Sequence[str] = config.get("architectures") or []
    if not any("SequenceClassification" in name for name in architectures):
        message = (
            "the model has no head that classifies texts; fine-tune it first, and name the finished "
            "model"
        )
        raise InvalidSpec(message, param="model", code="model_does_not_fit")
    # transformers leaves out what is its default: two classes without names.
    named = cast("dict[str, str]", config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"})
    names = [named[key] for key in sorted(named, key=int)]
    problem = PROBLEMS.get(str(config.get("problem_type")))
    if problem == "regression" or (problem is None and len(names) == 1):
        return "regression", None
    if given is not None and len(given) != len(names):
        message = f"task.labels names {len(given)} labels, and the model's head has {len(names)}"
        raise InvalidSpec(message, param="task.labels", code="model_does_not_fit")
    if given is None and all(name.startswith("LABEL_") for name in names):
        message = (
            f"the {len(names)} classes of the model's head have no names; name them in task.labels, in "
            "the order of its outputs"
        )
        raise InvalidSpec(message, param="task.labels", code="labels_missing")
    return problem or "single_label", list(given or names)
