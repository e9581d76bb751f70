"""The two pydantic bases, `Frozen` for what users give us and `Schema` for what we answer; their words."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# pydantic's words where they would not tell a person what to do.
PLAIN = {
    "extra_forbidden": "unknown field",
    "missing": "this field is needed",
    "finite_number": "must be a finite number",
    "dict_type": "must be a JSON object",
    "list_type": "must be a list",
    "string_type": "must be a string",
}


def and_more(total: int) -> str:
    """Return what is put after the first of `total` problems: nothing, or how many more there are."""
    more = total - 1
    return f" ({more} more problem{'s' if more > 1 else ''})" if more > 0 else ""


class Frozen(BaseModel):
    """Input that never changes once parsed; unknown fields are errors, NaN and infinity too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Schema(BaseModel):
    """Output, built from rows."""

    model_config = ConfigDict(from_attributes=True)
