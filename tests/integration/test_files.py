"""`/v1/files` of the real application over a real socket: whole uploads, and those that go wrong."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from tests.served import Served, served

LIMIT = 200_000
GOOD = b"text,label\ngood,a\nbad,b\n"


class Running:
    """The application on a port; `http` calls it with the first tenant's key."""

    def __init__(self, made: Served, url: str) -> None:
        self.made = made
        self.url = url
        self.http = httpx2.Client(base_url=url, headers=made.headers(), timeout=30)

    def upload(self, content: bytes, name: str = "data.csv", **fields: str) -> httpx2.Response:
        return self.http.post("/v1/files", files={"file": (name, content)}, data=fields)

    def stored(self) -> list[Path]:
        """Return every file of the store, temporary ones too."""
        return [p for p in self.made.settings.store_dir.rglob("*") if p.is_file()]


@pytest.fixture
def running(tmp_path: Path) -> Generator[Running]:
    with served(tmp_path / "home", predict=False, max_upload_bytes=LIMIT) as made:
        config = uvicorn.Config(made.app, port=0, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        made_running = Running(made, f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield made_running
        finally:
            made_running.http.close()
            server.should_exit = True
            thread.join(timeout=20)
            listener.close()


def error_of(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def wait_until_empty(running: Running) -> None:
    deadline = time.monotonic() + 20
    while running.stored() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running.stored() == []


def test_a_file_goes_in_and_comes_out_unchanged(running: Running) -> None:
    response = running.upload(GOOD, "reviews.csv", purpose="fine-tune")
    assert response.status_code == 201
    file = response.json()
    assert file["object"] == "file"
    assert (file["bytes"], file["filename"], file["purpose"], file["status"]) == (
        len(GOOD), "reviews.csv", "fine-tune", "processed",
    )  # fmt: skip
    assert file["sha256"] == hashlib.sha256(GOOD).hexdigest()
    assert [column["name"] for column in file["summary"]["columns"]] == ["text", "label"]
    assert running.http.get(f"/v1/files/{file['id']}").json() == file
    content = running.http.get(f"/v1/files/{file['id']}/content")
    assert content.content == GOOD
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["content-disposition"] == 'attachment; filename="reviews.csv"'


def test_a_file_of_many_chunks_keeps_every_byte(running: Running) -> None:
    rows = [{"text": f"line {i} --boundary\r\n--", "label": "ab"[i % 2]} for i in range(3000)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = running.upload(content, "x.jsonl").json()
    assert file["summary"]["rows"] == 3000
    assert running.http.get(f"/v1/files/{file['id']}/content").content == content


def test_problems_of_rows_are_reported_and_the_file_is_kept(running: Running) -> None:
    file = running.upload(GOOD + b"ragged,a,b\n").json()
    assert file["summary"]["rows"] == 2
    problem = file["summary"]["problems"]["first"][0]
    assert (problem["row"], problem["code"]) == (4, "ragged_row")


@pytest.mark.parametrize(
    ("name", "content", "code", "row"),
    [
        ("x.csv", b"", "empty_file", None),
        ("x.csv", b"text,label\n", "no_rows", None),
        ("x.csv", b"text,label\na\nb\n", "ragged_row", 2),
        ("x.jsonl", b'{"a": \n', "invalid_json", 1),
        ("x.csv", b"text,label\n\xb7\xff,a\n", "wrong_encoding", 2),
        ("x.parquet", b"PAR1xx", "cut_off", None),
        ("x.csv", b"PK\x03\x04", "archive", None),
        ("x.png", b"\x89PNG", "unknown_format", None),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_kept(
    running: Running, name: str, content: bytes, code: str, row: int | None
) -> None:
    error = error_of(running.upload(content, name))
    assert (error["code"], error["param"]) == (code, "file")
    assert error["details"]["file"] == name
    assert error["details"].get("row") == row
    assert running.stored() == []
    assert running.http.get("/v1/files").json()["data"] == []


@pytest.mark.parametrize(
    "name",
    ["../x.csv", "a/b.csv", "..", "/etc/passwd", "x" * 300 + ".csv", "a\nb.csv", "a\u202ecsv", " "],
)
def test_tricky_names_are_refused(running: Running, name: str) -> None:
    error = error_of(running.upload(GOOD, name))
    assert (error["code"], error["param"]) == ("invalid_filename", "file")
    assert running.stored() == []


def test_other_names_survive(running: Running) -> None:
    for name in ("数据 集.csv", 'say "hi".csv', "a..b.csv", "x" * 251 + ".csv"):
        file = running.upload(GOOD, name).json()
        assert file["filename"] == name
        content = running.http.get(f"/v1/files/{file['id']}/content")
        assert content.headers["content-disposition"].startswith("attachment;")


def test_too_large_is_counted_by_the_bytes_that_come(running: Running) -> None:
    error = error_of(running.upload(b"x" * (LIMIT + 1)), 413)
    assert (error["code"], error["details"]["limit"]) == ("too_large", LIMIT)

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n'
        for _ in range(5):
            yield b"x" * LIMIT
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}  # chunked: no length is claimed
    error_of(running.http.post("/v1/files", content=body(), headers=headers), 413)
    assert running.stored() == []


def part(name: str, content: bytes = GOOD, filename: str | None = None) -> bytes:
    extra = f'; filename="{filename}"' if filename else ""
    header = f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return header.encode() + content + b"\r\n"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"--b--\r\n", "file", "missing_file"),
        (part("purpose", b"fine-tune") + b"--b--\r\n", "file", "missing_file"),
        (part("fiel", GOOD, "x.csv") + b"--b--\r\n", "fiel", "unknown_field"),
        (part("file") + b"--b--\r\n", "file", "invalid_filename"),
        (part("file", GOOD, "x.csv") * 2 + b"--b--\r\n", "file", "invalid_request"),
        (part("file", GOOD, "x.csv"), "file", "upload_cut_off"),
        (b"", "file", "upload_cut_off"),
        (b"nonsense", "body", "broken_multipart"),
        (part("purpose", b"x" * 2000) + b"--b--\r\n", "purpose", "invalid_request"),
        (part("file", GOOD, "x.csv") + part("purpose", b"a b") + b"--b--", "purpose",
         "invalid_request"),
    ],
)  # fmt: skip
def test_broken_forms_name_the_field(running: Running, body: bytes, param: str, code: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    error = error_of(running.http.post("/v1/files", content=body, headers=headers))
    assert (error["param"], error["code"]) == (param, code)
    assert running.stored() == []


def test_a_body_that_is_no_form_is_refused(running: Running) -> None:
    for headers in ({"content-type": "text/csv"}, {"content-type": "multipart/form-data"}, {}):
        error = error_of(running.http.post("/v1/files", content=GOOD, headers=headers))
        assert error["code"] == "not_multipart"


def test_a_connection_that_breaks_leaves_nothing(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    key = running.made.headers()["Authorization"]
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 150000\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + part("file", GOOD * 1000, "x.csv"))
        deadline = time.monotonic() + 20
        while not running.stored() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running.stored(), "the upload has begun"
    wait_until_empty(running)
    assert running.http.get("/v1/files").json()["data"] == []


def test_lists_are_paged_filtered_and_ordered(running: Running) -> None:
    ids = [running.upload(GOOD, purpose=p).json()["id"] for p in ("one", "two", "one")]
    page = running.http.get("/v1/files", params={"limit": 2}).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = running.http.get("/v1/files", params={"after": page["last_id"], "limit": 10_000}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    of_one = running.http.get("/v1/files", params={"purpose": "one", "order": "asc"}).json()
    assert [file["id"] for file in of_one["data"]] == [ids[0], ids[2]]
    assert error_of(running.http.get("/v1/files", params={"limit": 10_001}))["param"] == "limit"


def test_delete_removes_row_and_bytes_unless_a_job_needs_them(running: Running) -> None:
    file_id = running.upload(GOOD).json()["id"]
    in_use = running.made.app.state.file_in_use
    running.made.app.state.file_in_use = lambda *_: True
    error = error_of(running.http.delete(f"/v1/files/{file_id}"), 409)
    assert error["code"] == "file_in_use"
    running.made.app.state.file_in_use = in_use
    response = running.http.delete(f"/v1/files/{file_id}")
    assert response.json() == {"id": file_id, "object": "file", "deleted": True}
    assert running.stored() == []
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error_of(running.http.request(method, f"/v1/files/{file_id}{path}"), 404)


def test_another_tenant_sees_nothing(running: Running) -> None:
    file_id = running.upload(GOOD).json()["id"]
    other = running.made.headers(tenant=1)
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        error_of(running.http.request(method, f"/v1/files/{file_id}{path}", headers=other), 404)
    assert running.http.get("/v1/files", headers=other).json()["data"] == []


def test_scopes_are_needed(running: Running) -> None:
    reader = running.made.headers(scopes=("files:read",))
    error_of(running.http.post("/v1/files", files={"file": ("x.csv", GOOD)}, headers=reader), 403)
    assert running.http.get("/v1/files", headers=reader).status_code == 200
    with httpx2.Client(base_url=running.url) as anonymous:
        error_of(anonymous.post("/v1/files", files={"file": ("x.csv", GOOD)}), 401)


def test_the_form_is_documented(running: Running) -> None:
    operation = running.http.get("/openapi.json").json()["paths"]["/v1/files"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(schema["properties"]) == {"file", "purpose"}
