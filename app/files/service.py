"""Receiving, describing and removing uploads. Takes a session, never commits.

Bytes come first and rows second: a row's bytes are always there, and an upload that ends early for any
reason leaves neither.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from app.adapt.summary import summarize
from app.errors import AttuneError, Conflict, InvalidRequest
from app.files.form import UploadForm
from app.files.repository import FileRepository
from app.files.tables import File
from app.kit.clock import now
from app.kit.db import database_now
from app.kit.ids import new_id
from app.store.durable import sync_folder

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.kit.db import Database
    from app.settings import Settings
    from app.store.layout import Layout

PURPOSE = "fine-tune"
MAX_PURPOSE = 32
WRITE_BYTES = 1024 * 1024
STALE_S = 24 * 3600.0
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 10.0
SUMMARIES_AT_ONCE = 2  # a summary keeps a core busy; requests for other things must go on

InUse = Callable[["Session", str, str], bool]


class Incoming:
    """A file on its way in: bytes beside their place, hashed and counted; gone unless kept."""

    def __init__(self, layout: Layout, file_id: str) -> None:
        self.final = layout.file(file_id)
        folder = self.final.parent / ".incoming"
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        self.path = folder / f"{secrets.token_hex(8)}.part"
        self.digest = hashlib.sha256()
        self.size = 0
        self._pending = bytearray()
        self._file = self.path.open("xb")

    def take(self, data: bytes) -> None:
        """Note bytes; they are written by `flush`."""
        self._pending += data

    @property
    def is_full(self) -> bool:
        """Whether enough has come to be worth a write."""
        return len(self._pending) >= WRITE_BYTES

    def flush(self) -> None:
        """Write what is noted."""
        self.digest.update(self._pending)
        self.size += len(self._pending)
        self._file.write(self._pending)
        self._pending.clear()

    def close(self) -> None:
        """Write the rest and make it durable."""
        self.flush()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def keep(self) -> None:
        """Move the bytes to their place, durably."""
        self.path.rename(self.final)
        sync_folder(self.final.parent)

    def discard(self) -> None:
        """Remove what was not kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    """Remove what a killed server left behind."""
    for path in folder.glob("*.part"):
        try:
            if now() - path.stat().st_mtime > STALE_S:
                path.unlink()
        except FileNotFoundError:  # another upload was faster
            continue


class Uploads:
    """Uploads of one application; made within its event loop."""

    def __init__(self, database: Database, layout: Layout, settings: Settings) -> None:
        self.database = database
        self.layout = layout
        self.settings = settings
        self._summaries = anyio.CapacityLimiter(SUMMARIES_AT_ONCE)

    async def receive(
        self, chunks: AsyncIterator[bytes], content_type: str, tenant_id: str
    ) -> File:
        """Stream one form to disk, read what the file holds, and store both or nothing.

        Raises:
            InvalidRequest: not a form with one file, or cut off.
            InvalidData: the file cannot be read, or not one of its rows can.
            TooLarge: past the operator's limit, by the bytes that came.
        """
        file_id = new_id("file")
        incoming = await to_thread.run_sync(Incoming, self.layout, file_id)
        try:
            form = await self._read(chunks, content_type, incoming)
            filename = form.finish()
            purpose = _purpose(form.fields.get("purpose", PURPOSE))
            await to_thread.run_sync(incoming.close)
            summary = await to_thread.run_sync(
                self._summarize, incoming.path, filename, limiter=self._summaries
            )
            file = File(
                id=file_id,
                tenant_id=tenant_id,
                filename=filename,
                purpose=purpose,
                bytes=incoming.size,
                sha256=incoming.digest.hexdigest(),
                status="processed",
                summary=summary,
            )
            return await to_thread.run_sync(self._store, incoming, file)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(incoming.discard)

    async def _read(
        self, chunks: AsyncIterator[bytes], content_type: str, incoming: Incoming
    ) -> UploadForm:
        try:
            form = UploadForm(content_type, incoming.take, self.settings.max_upload_bytes)
            async for chunk in chunks:
                form.feed(chunk)
                if incoming.is_full:
                    await to_thread.run_sync(incoming.flush)
        except AttuneError:
            # Most clients read the answer only once they have sent their body.
            await _drain(chunks)
            raise
        return form

    def _summarize(self, path: Path, filename: str) -> dict[str, Any]:
        return summarize(path, filename, max_rows=self.settings.max_rows)

    def _store(self, incoming: Incoming, file: File) -> File:
        incoming.keep()
        try:
            with self.database.transaction() as session:
                file.created_at = database_now(session)
                return FileRepository(session, file.tenant_id).add(file)
        except BaseException:
            incoming.final.unlink(missing_ok=True)
            raise


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read on for a while and keep nothing."""
    left = DRAIN_BYTES
    with anyio.move_on_after(DRAIN_S):
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                return


def delete(session: Session, tenant_id: str, file_id: str, in_use: InUse) -> File:
    """Delete a file's row; the caller removes its bytes once this has committed.

    Raises:
        NotFound: no such file.
        Conflict: an unfinished job needs it.
    """
    files = FileRepository(session, tenant_id)
    file = files.get(file_id, lock="exclusive")
    if in_use(session, tenant_id, file_id):
        message = f"an unfinished job needs {file_id}; cancel it or wait for its end"
        raise Conflict(message, code="file_in_use")
    files.remove(file)
    return file


def _purpose(value: str) -> str:
    if not 0 < len(value) <= MAX_PURPOSE or not all("!" <= c <= "~" for c in value):
        message = f"purpose must be 1 to {MAX_PURPOSE} visible ASCII characters"
        raise InvalidRequest(message, param="purpose")
    return value
