"""The language of jobs: one union on `kind`, parsed here only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pydantic import ValidationError

from app.errors import InvalidSpec
from app.kit.schema import PLAIN, and_more
from app.spec.base import ModelSpec
from app.spec.batch_predict import BatchPredict
from app.spec.distill import Distill
from app.spec.evaluate import Evaluate
from app.spec.fine_tune import FineTune
from app.spec.multi_task import MultiTask
from app.spec.pretrain import Pretrain
from app.spec.training import Training

TrainingSpec = FineTune | Distill
JobSpec = TrainingSpec | MultiTask | Pretrain | Evaluate | BatchPredict
SPECS: dict[str, type[JobSpec]] = {
    "fine_tune": FineTune,
    "distill": Distill,
    "multi_task": MultiTask,
    "pretrain": Pretrain,
    "evaluate": Evaluate,
    "batch_predict": BatchPredict,
}


def parse_spec(value: Any) -> JobSpec:
    """Return the spec that `value` (decoded JSON) describes; one without a kind is a fine_tune.

    Raises:
        InvalidSpec: with `param` the path of the first wrong field and every problem in `details`.
    """
    kind = (
        cast("dict[str, Any]", value).get("kind", "fine_tune") if isinstance(value, dict) else None
    )
    if isinstance(value, dict) and kind not in SPECS:
        message = f"kind: must be one of: {', '.join(sorted(SPECS))}"
        raise InvalidSpec(message, param="kind")
    try:
        return SPECS[kind or "fine_tune"].model_validate(value)
    except ValidationError as error:
        raise _invalid_spec(error, value) from None


def parse_training(value: Any) -> TrainingSpec | Pretrain:
    """Return the spec of a job that made a checkpoint."""
    spec = parse_spec(value)
    if not isinstance(spec, (Training, Pretrain)):
        what = "trains several tasks" if makes_model(spec.kind) else "trains nothing"
        message = f"a job of kind {spec.kind} {what}"
        raise InvalidSpec(message, param="kind", code="not_a_training")
    return spec


def makes_model(kind: str) -> bool:
    """Say whether jobs of a kind make models."""
    return kind in SPECS and issubclass(SPECS[kind], ModelSpec)


def makes_sources(kind: str) -> bool:
    """Say whether checkpoints of jobs of a kind are models of one task, and so sources of other jobs."""
    return kind in SPECS and issubclass(SPECS[kind], (Training, Pretrain))


def _invalid_spec(error: ValidationError, value: Any) -> InvalidSpec:
    """Turn pydantic's report into ours: paths as the user wrote them, one problem a path."""
    found: dict[str, dict[str, str]] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = _path(item["loc"], value, item["type"])
        item["msg"] = PLAIN.get(item["type"], item["msg"].removeprefix("Value error, "))
        if path in found:  # another member of a union: `"auto"` beside a number
            found[path]["message"] += f"; or: {item['msg']}"
        else:
            found[path] = {"param": path, "message": item["msg"], "type": item["type"]}
    problems = list(found.values())
    first = problems[0]
    message = f"{first['param']}: {first['message']}{and_more(len(problems))}"
    return InvalidSpec(message, param=first["param"], details={"problems": problems})


def _path(location: tuple[int | str, ...], value: Any, type_: str) -> str:
    """Follow a location through what the user wrote, leaving out pydantic's tags of union members."""
    parts: list[str] = []
    for position, part in enumerate(location):
        is_last = position == len(location) - 1
        if isinstance(value, dict) and part in value:
            value = cast("dict[Any, Any]", value)[part]
        elif (
            isinstance(value, (list, tuple))
            and isinstance(part, int)
            and part < len(cast("Sequence[Any]", value))
        ):
            value = cast("Sequence[Any]", value)[part]
        elif not (is_last and type_ == "missing"):
            continue
        parts.append(str(part))
    return ".".join(parts) or "body"
