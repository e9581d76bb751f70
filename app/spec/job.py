"""The language of jobs: one union on `kind`, parsed here only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pydantic import ValidationError

from app.errors import InvalidSpec
from app.kit.schema import PLAIN, and_more
from app.spec.distill import Distill
from app.spec.fine_tune import FineTune
from app.spec.pretrain import Pretrain

JobSpec = FineTune | Distill | Pretrain
SPECS: dict[str, type[JobSpec]] = {
    "fine_tune": FineTune,
    "distill": Distill,
    "pretrain": Pretrain,
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
