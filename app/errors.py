"""The one error tree. It knows codes, not HTTP: `app.http.problem` holds the only mapping to statuses.

    AttuneError
    ├── InvalidRequest            the request itself is wrong; `param` names the field
    │   ├── InvalidSpec           a job spec that cannot be run
    │   ├── InvalidData           a file, row or column that cannot be used
    │   ├── UnsafeModel           a model folder we refuse to load
    │   └── KeyReused             an Idempotency-Key that came with another request before
    ├── Unauthenticated           no key, or one that is wrong, expired or revoked
    ├── PermissionDenied          a valid key without the scope
    ├── NotFound                  no such thing for this tenant
    ├── Conflict                  the thing exists but is in another state
    ├── TooLarge                  past a limit that the operator set
    ├── Overloaded                try again later
    ├── Unavailable               something we need is down or switched off
    ├── LeaseLost                 this worker no longer owns the job: stop at once
    └── TrainingFailed            the job ran and cannot succeed (NaN loss, out of memory, ...)

Adding an error: subclass the nearest branch, give it a `code`, and if it starts a new branch add one
line to the table in `app.http.problem` (a test fails until you do). Errors stay picklable and JSON-able,
because they cross from the trainer to the worker and into the job's row.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar


class AttuneError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.param = param
        self.error_code = code or self.code
        self.details = details or {}
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild through keyword arguments: `Exception` would replay the message alone."""
        return (_rebuild, (type(self), self.message, self.param, self.error_code, self.details))

    def to_dict(self) -> dict[str, Any]:
        """Return what is stored on a job and sent to clients: code, message, param, details."""
        return {
            "code": self.error_code,
            "message": self.message,
            "param": self.param,
            "details": self.details,
        }


def _rebuild(
    kind: type[AttuneError],
    message: str,
    param: str | None,
    code: str,
    details: dict[str, Any],
) -> AttuneError:
    return kind(message, param=param, code=code, details=details)


class InvalidRequest(AttuneError):
    """The request is not valid."""

    code = "invalid_request"


class InvalidSpec(InvalidRequest):
    """The job spec cannot be run as it stands."""

    code = "invalid_spec"


class InvalidData(InvalidRequest):
    """The data cannot be used as it stands."""

    code = "invalid_data"


class UnsafeModel(InvalidRequest):
    """The model's files are not safe to load."""

    code = "unsafe_model"


class KeyReused(InvalidRequest):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"


class Unauthenticated(AttuneError):
    """No valid API key was given."""

    code = "invalid_api_key"


class PermissionDenied(AttuneError):
    """This API key lacks the scope for this call."""

    code = "permission_denied"


class NotFound(AttuneError):
    """There is no such resource."""

    code = "not_found"


class Conflict(AttuneError):
    """The resource is not in a state that allows this."""

    code = "conflict"


class TooLarge(AttuneError):
    """The request is larger than this server allows."""

    code = "too_large"


class Overloaded(AttuneError):
    """The server is at its limit; try again later."""

    code = "overloaded"
    retryable = True


class Unavailable(AttuneError):
    """Something this call needs is not available."""

    code = "unavailable"
    retryable = True


class LeaseLost(AttuneError):
    """This worker no longer owns the job."""

    code = "lease_lost"


class TrainingFailed(AttuneError):
    """The training cannot succeed."""

    code = "training_failed"


@contextmanager
def within(field: str) -> Generator[None]:
    """Let errors name what lies under `field` of a spec: `param` and message are of a part of it."""
    try:
        yield
    except AttuneError as error:
        error.param = f"{field}.{error.param}" if error.param else field
        error.message = f"{field}: {error.message}"
        error.args = (error.message,)
        raise
