"""What a key may do."""

from __future__ import annotations

from enum import StrEnum

from app.errors import InvalidRequest


class Scope(StrEnum):
    """One right. A route names the one it needs."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    PREDICT = "predict"
    KEYS_MANAGE = "keys:manage"


PRESETS: dict[str, frozenset[Scope]] = {
    "all": frozenset(Scope),
    "read-only": frozenset({Scope.JOBS_READ, Scope.FILES_READ, Scope.MODELS_READ}),
    "predict": frozenset({Scope.PREDICT, Scope.MODELS_READ}),
}


def parse_scopes(names: list[str]) -> list[str]:
    """Expand presets and sort.

    Raises:
        InvalidRequest: an unknown name, or none at all.
    """
    scopes: set[str] = set()
    for name in names:
        if name not in PRESETS and name not in set(Scope):
            known = ", ".join([*PRESETS, *Scope])
            message = f"unknown scope {name!r}; known are: {known}"
            raise InvalidRequest(message, param="scopes")
        scopes |= PRESETS.get(name, frozenset({Scope(name)} if name not in PRESETS else set()))
    if not scopes:
        message = "a key needs at least one scope"
        raise InvalidRequest(message, param="scopes")
    return sorted(scopes)
