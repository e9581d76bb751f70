"""The server over HTTP. Knows routes' verbs and the error envelope, nothing of what a job means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2

from app.cli.credentials import Credentials
from app.cli.exits import Code, Failure, of_response

CONNECT_S = 5.0
READ_S = 60.0
CHUNK = 1 << 16


class Client:
    """One connection pool with the bearer key; every error answer becomes a `Failure`."""

    def __init__(self, credentials: Credentials, *, read_timeout_s: float = READ_S) -> None:
        self.url = credentials.url
        headers = {"user-agent": "attune-cli"}
        if credentials.key:
            headers["authorization"] = f"Bearer {credentials.key}"
        timeout = httpx2.Timeout(read_timeout_s, connect=CONNECT_S)
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET a JSON document."""
        return self._send("GET", path, params=_given(params))

    def text(self, path: str) -> str:
        """GET a text."""
        return self._request("GET", path).text

    def post(
        self, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """POST JSON and return the JSON answer."""
        return self._send("POST", path, json=body, headers=headers)

    def delete(self, path: str) -> dict[str, Any]:
        """DELETE a thing."""
        return self._send("DELETE", path)

    def upload(self, path: Path, purpose: str = "fine-tune") -> dict[str, Any]:
        """POST a file as it is read from disk."""
        try:
            with path.open("rb") as file:
                return self._send(
                    "POST",
                    "/v1/files",
                    files={"file": (path.name, file)},
                    data={"purpose": purpose},
                )
        except OSError as error:
            message = f"cannot read {path}: {error.strerror or error}"
            raise Failure(message, Code.DATA) from None

    def download(self, path: str, target: Path) -> tuple[int, str]:
        """GET a file to disk, whole or not at all; return its bytes and SHA-256."""
        digest = hashlib.sha256()
        part = target.with_name(target.name + ".part")
        try:
            with self._http.stream("GET", path) as response:
                self._check(response)
                with part.open("wb") as file:
                    for chunk in response.iter_bytes(CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None
        part.replace(target)
        return target.stat().st_size, digest.hexdigest()

    def events(self, path: str, after: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, data) of an event stream until the server ends it."""
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)  # the server pings every 15 s
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                self._check(response)
                for event in httpx2.EventSource(response):
                    if event.data:
                        yield event.event, json.loads(event.data)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield every row of a list, page after page."""
        after = None
        while True:
            body = self.get(path, after=after, **params)
            yield from body["data"]
            if not body.get("has_more") or not body["data"]:
                return
            last = body["data"][-1]
            after = body.get("last_id") or last["id"]

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._request(method, path, **options)
        if not response.content:
            return {}
        try:
            return dict(response.json())
        except ValueError:
            message = f"{self.url} does not answer like an Attune server; is --url right?"
            raise Failure(message, Code.ERROR) from None

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None
        self._check(response)
        return response

    def _check(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        response.read()
        try:
            error = dict(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            error = {"message": f"the server answered {response.status_code}", "code": None}
        hint = None
        if response.status_code == 401:  # noqa: PLR2004
            hint = (
                "give a key with --key or ATTUNE_API_KEY; `attune up` writes one for this machine"
            )
        if request_id := response.headers.get("x-request-id"):
            error.setdefault("request_id", request_id)
        code = of_response(response.status_code, error)
        raise Failure(str(error.get("message")), code, error=error, hint=hint)

    def _unreachable(self, error: Exception) -> Failure:
        if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
            return Failure(f"{self.url} did not answer in time", Code.UNREACHABLE)
        message = f"no server answers at {self.url} ({error or type(error).__name__})"
        return Failure(message, Code.UNREACHABLE, hint="start one with `attune up`")


def encode(part: str, *, safe: str = "") -> str:
    """Return an id as one path segment: model ids hold colons and slashes."""
    return quote(part, safe=safe)


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
