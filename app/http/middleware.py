"""What happens around every request, as plain ASGI: request id, access log, metrics, limits, headers.

No `BaseHTTPMiddleware`: it breaks streaming answers when clients disconnect.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from app.errors import AttuneError, InvalidRequest, TooLarge
from app.http.problem import respond
from app.kit.clock import monotonic
from app.kit.ids import new_id
from app.settings import Settings
from app.telemetry import HTTP_REQUESTS, HTTP_SECONDS, get_logger

log = get_logger(__name__)
REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Observed:
    """Outermost: gives each request an id, a log line and its metrics, and each answer its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else new_id("req")
        started = monotonic()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, answer)
            finally:
                self._note(scope, status, monotonic() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The template, never the path: a label for each id would never end.
        route = getattr(scope.get("route"), "path", "unmatched")
        HTTP_REQUESTS.labels(scope["method"], route, str(status)).inc()
        HTTP_SECONDS.labels(scope["method"], route).observe(seconds)
        if scope["path"] not in QUIET:
            log.info("http.request", method=scope["method"], path=scope["path"], status=status,
                     ms=round(seconds * 1000, 1))  # fmt: skip


class Limited:
    """Refuses strange hosts, and JSON bodies too large or too deep, before anything parses them."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers.get("host", ""))
            if scope["method"] in {"POST", "PUT", "PATCH"} and not _is_upload(headers):
                receive = await self._whole_body(receive)
        except AttuneError as error:
            await respond(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        allowed = self.settings.allowed_hosts
        if "*" not in allowed and (urlsplit(f"//{host}").hostname or "") not in allowed:
            message = "this Host is not served here; the operator lists it in ATTUNE_ALLOWED_HOSTS"
            raise InvalidRequest(message, param="Host", code="unknown_host")

    async def _whole_body(self, receive: Receive) -> Receive:
        """Read the body, counting what arrives: Content-Length is only a claim."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            if len(body) > self.settings.max_json_bytes:
                text = f"the body is larger than {self.settings.max_json_bytes} bytes, the limit"
                raise TooLarge(text, param="body")
            if not message.get("more_body", False):
                break
        if depth(body) > self.settings.max_json_depth:
            text = f"the JSON is nested more than {self.settings.max_json_depth} levels deep"
            raise InvalidRequest(text, param="body", code="json_too_deep")
        is_sent = False

        async def replay() -> Message:
            nonlocal is_sent
            if is_sent:
                return await receive()
            is_sent = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return replay


def _is_upload(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith("multipart/")


_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def depth(body: bytes | bytearray) -> int:
    """Return how deep the arrays and objects of a JSON text nest; strings are skipped."""
    deepest = level = 0
    for match in _STRUCTURE.finditer(body):
        token: Any = match[0]
        if token in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif token in b"]}":
            level -= 1
    return deepest
