"""The two pydantic bases: `Frozen` for what users give us, `Schema` for what we answer."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Input that never changes once parsed; unknown fields are errors, NaN and infinity too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Schema(BaseModel):
    """Output, built from rows."""

    model_config = ConfigDict(from_attributes=True)
