"""The only mapping from our errors to HTTP, and the one envelope that every error is sent in.

{"error": {"message", "type", "param", "code", "details"}}     the OpenAI clients' shape
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app import errors
from app.errors import AttuneError
from app.kit.schema import PLAIN, and_more
from app.telemetry import get_logger

log = get_logger(__name__)

# The nearest class in an error's ancestry decides. A test fails for a branch that is missing here.
STATUS: dict[type[AttuneError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.KeyReused: (422, "invalid_request_error"),
    errors.Unauthenticated: (401, "authentication_error"),
    errors.PermissionDenied: (403, "permission_error"),
    errors.NotFound: (404, "not_found_error"),
    errors.Conflict: (409, "conflict_error"),
    errors.TooLarge: (413, "invalid_request_error"),
    errors.Overloaded: (429, "rate_limit_error"),
    errors.Unavailable: (503, "server_error"),
    errors.LeaseLost: (500, "server_error"),
    errors.TrainingFailed: (500, "server_error"),
    AttuneError: (500, "server_error"),
}
HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    # The openai client repeats a 409 by itself unless told not to.
    409: {"x-should-retry": "false"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "2"},
}
TYPES = dict(STATUS.values())


def status_of(error: AttuneError) -> tuple[int, str]:
    """Return the HTTP status and the error type of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def envelope(
    message: str, type_: str, *, param: str | None = None, code: str | None = None,
    details: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the body of an error answer."""
    error = {"message": message, "type": type_, "param": param, "code": code}
    return {"error": error | ({"details": details} if details else {})}


def respond(error: AttuneError) -> JSONResponse:
    """Return the answer that stands for an error."""
    status, type_ = status_of(error)
    body = envelope(
        error.message, type_, param=error.param, code=error.error_code, details=error.details
    )
    return JSONResponse(body, status_code=status, headers=HEADERS.get(status))


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of error answers, for a router's `responses`."""
    schema = {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                    "details": {"type": "object"},
                },
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
    }
    content = {"application/json": {"schema": schema}}
    return {s: {"description": TYPES.get(s, "error"), "content": content} for s in statuses}


def install(app: FastAPI) -> None:
    """Make every way in which a request can fail end in the envelope."""
    app.add_exception_handler(AttuneError, _attune_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


def _attune_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, AttuneError):
        raise TypeError from error
    response = respond(error)
    if response.status_code >= 500:  # noqa: PLR2004
        log.warning("http.failed", code=error.error_code, error=error.message)
    return response


def _validation_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise TypeError from error
    problems = [
        {"param": _path(item), "message": _plain(item), "type": item["type"]}
        for item in error.errors()
    ]
    first = problems[0]
    is_broken = first["type"] == "json_invalid"
    message = first["message"] if is_broken else f"{first['param']}: {first['message']}"
    message += and_more(len(problems))
    return respond(
        errors.InvalidRequest(message, param=first["param"], details={"problems": problems})
    )


def _plain(item: dict[str, Any]) -> str:
    if item["type"] == "json_invalid":
        context = item.get("ctx", {}).get("error", "")
        return f"the body is not valid JSON at character {item['loc'][-1]}: {context}"
    if item["type"] == "dict_type" and item["loc"] == ("body",):
        return "must be a JSON object, sent with Content-Type: application/json"
    return PLAIN.get(item["type"], str(item["msg"]))


def _path(item: dict[str, Any]) -> str:
    """Drop where the value came from: `body.data.train` is `data.train` to whoever wrote it."""
    if item["type"] == "json_invalid":  # its location is a character
        return "body"
    return ".".join(str(part) for part in item["loc"][1:]) or "body"


def _http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise TypeError from error
    messages = {
        404: f"no route {request.method} {request.url.path}; GET /docs lists them",
        405: f"{request.url.path} does not take {request.method}",
    }
    status = error.status_code
    message = messages.get(status, str(error.detail))
    body = envelope(message, TYPES.get(status, "invalid_request_error"), code=f"http_{status}")
    return JSONResponse(body, status_code=status, headers=error.headers)


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("http.crashed", exc_info=error)
    message = "the server failed to answer this request; its log has the x-request-id"
    return JSONResponse(envelope(message, "server_error", code="internal_error"), status_code=500)
