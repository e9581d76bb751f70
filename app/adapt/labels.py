"""What a value in a label column names. Torch-free."""

from __future__ import annotations

from typing import Any

MISSING = {"nan", "null", "<na>", "#n/a"}  # "none" and "n/a" are names that people give


def label_of(value: Any) -> str:
    """Return a target as the label it names: `1`, `1.0` and `"1"` are one label."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def looks_missing(label: str) -> bool:
    """Say whether a label is what programs write for a value that is not there."""
    return label.strip().lower() in MISSING
