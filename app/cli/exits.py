"""What the command line's exit codes mean, and the one error that ends a command."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from app.errors import (
    AttuneError,
    Conflict,
    InvalidData,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)


class Code(IntEnum):
    """Exit codes; scripts may rely on them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    DATA = 3
    AUTHENTICATION = 4
    NOT_FOUND = 5
    CONFLICT = 6
    UNREACHABLE = 7
    TIMEOUT = 124
    INTERRUPTED = 130


OF_STATUS = {
    400: Code.USAGE,
    401: Code.AUTHENTICATION,
    403: Code.AUTHENTICATION,
    404: Code.NOT_FOUND,
    409: Code.CONFLICT,
    413: Code.CONFLICT,
    422: Code.USAGE,
    429: Code.CONFLICT,
    503: Code.UNREACHABLE,
}
OF_ERROR: list[tuple[type[AttuneError], Code]] = [
    (InvalidData, Code.DATA),
    (InvalidRequest, Code.USAGE),
    (Unauthenticated, Code.AUTHENTICATION),
    (PermissionDenied, Code.AUTHENTICATION),
    (NotFound, Code.NOT_FOUND),
    (Conflict, Code.CONFLICT),
    (TooLarge, Code.CONFLICT),
    (Overloaded, Code.CONFLICT),
    (Unavailable, Code.UNREACHABLE),
]


class Failure(Exception):
    """A command cannot do what it was asked; shown without a traceback."""

    def __init__(
        self,
        message: str,
        code: Code = Code.ERROR,
        *,
        error: dict[str, Any] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.error = error or {"message": message}
        self.hint = hint


def of_response(status: int, error: dict[str, Any]) -> Code:
    """Return the exit code for an error answer; one that names a file or rows is about data."""
    details = error.get("details") or {}
    if status in {400, 422} and (error.get("code") == InvalidData.code or "file" in details):
        return Code.DATA
    return OF_STATUS.get(status, Code.ERROR)


def of_error(error: AttuneError) -> Failure:
    """Return what a local error of the service's own means for a command."""
    code = next((code for kind, code in OF_ERROR if isinstance(error, kind)), Code.ERROR)
    return Failure(error.message, code, error=error.to_dict())
