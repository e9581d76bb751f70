"""The language of jobs: one union on `kind`, parsed, canonicalized and fingerprinted here only."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from app.errors import InvalidSpec
from app.spec.fine_tune import FineTune

JobSpec = Annotated[FineTune, Field(discriminator=None)]
_ADAPTER: TypeAdapter[FineTune] = TypeAdapter(JobSpec)


def parse_spec(value: Any) -> FineTune:
    """Return the spec that `value` (decoded JSON) describes.

    Raises:
        InvalidSpec: with `param` the path of the first wrong field and every problem in `details`.
    """
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise invalid_spec(error) from None


def invalid_spec(error: ValidationError) -> InvalidSpec:
    """Turn pydantic's report into ours: dotted paths without the union tags that users never wrote."""
    problems = [
        {"param": _path(item["loc"]), "message": item["msg"], "type": item["type"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = problems[0]
    more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
    message = f"{first['param']}: {first['message']}{more}"
    return InvalidSpec(message, param=first["param"], details={"problems": problems})


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "body"


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
