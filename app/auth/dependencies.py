"""From the `Authorization` header to an `Identity`, for routes: `Depends(require("jobs:read"))`."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from fastapi import Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer

from app.auth import repository
from app.auth.service import TOUCH_EVERY_S, Identity, authenticate
from app.errors import Overloaded, PermissionDenied, Unauthenticated
from app.http.state import services_of
from app.kit.clock import monotonic

CACHE_S = 5.0
CACHE_SIZE = 4096
FAILURES_PER_MINUTE = 60
NO_KEY = (
    "no API key was given; send `Authorization: Bearer <key>` "
    "(`attune up` prints one, `attune keys create` makes more)"
)
_bearer = HTTPBearer(auto_error=False, description="An API key, `ak-...`.")


class KeyCache:
    """Keys proven in the last seconds, so that the hot path asks no database. One an application.

    A key revoked through this process is gone at once, through another one within `CACHE_S`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._failures: dict[str, tuple[float, int]] = {}

    def get(self, secret: str) -> Identity | None:
        """Return the identity behind a key proven lately."""
        entry = self._known.get(_fingerprint(secret))
        return entry[1] if entry is not None and entry[0] > monotonic() else None

    def put(self, secret: str, identity: Identity) -> None:
        """Remember a proven key for a few seconds."""
        with self._lock:
            self._known[_fingerprint(secret)] = (monotonic() + CACHE_S, identity)
            while len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)

    def forget(self, key_id: str) -> None:
        """Drop a key that was revoked."""
        with self._lock:
            for secret in [s for s, (_, who) in self._known.items() if who.key_id == key_id]:
                del self._known[secret]

    def note_failure(self, client: str) -> None:
        """Count a failed attempt; too many in a minute raise `Overloaded` before any look-up."""
        now = monotonic()
        with self._lock:
            until, count = self._failures.get(client, (now + 60.0, 0))
            if until < now:
                until, count = now + 60.0, 0
            self._failures[client] = (until, count + 1)
            if len(self._failures) > CACHE_SIZE:
                self._failures.clear()

    def check_failures(self, client: str) -> None:
        """Raise `Overloaded` for a client that guesses keys."""
        until, count = self._failures.get(client, (0.0, 0))
        if count >= FAILURES_PER_MINUTE and until > monotonic():
            message = "too many wrong API keys from this address; try again in a minute"
            raise Overloaded(message, code="too_many_failures")


def require(scope: str) -> Callable[..., Awaitable[Identity]]:
    """Return the dependency that lets a request with this scope through.

    It is async because FastAPI wakes a thread for one that is not, and a key that was proven lately needs
    none: only the look-up of an unknown key goes to a thread.
    """

    async def dependency(request: Request, _: object = Security(_bearer)) -> Identity:
        identity = await identify(request)
        if scope not in identity.scopes:
            message = f"this API key lacks the scope {scope!r}"
            raise PermissionDenied(message, details={"scopes": sorted(identity.scopes)})
        return identity

    return dependency


async def identify(request: Request, _: object = Security(_bearer)) -> Identity:
    """Return who is calling; a FastAPI dependency for routes that need no scope.

    Raises:
        Unauthenticated: no key, or not a valid one.
        Overloaded: too many wrong keys from this address.
    """
    secret = _secret(request)
    cache: KeyCache = request.app.state.key_cache
    return cache.get(secret) or await run_in_threadpool(_prove, secret, request)


def _prove(secret: str, request: Request) -> Identity:
    cache: KeyCache = request.app.state.key_cache
    client = request.client.host if request.client else "unknown"
    cache.check_failures(client)
    services = services_of(request)
    try:
        with services.database.read() as session:
            identity = authenticate(session, services.settings.pepper, secret)
    except Unauthenticated:
        cache.note_failure(client)
        raise
    with services.database.transaction() as session:
        repository.touch(session, identity.key_id, TOUCH_EVERY_S)
    cache.put(secret, identity)
    return identity


def _secret(request: Request) -> str:
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    other = request.headers.get("x-api-key")
    if other:
        return other.strip()
    raise Unauthenticated(NO_KEY, code="missing_api_key")


def _fingerprint(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
