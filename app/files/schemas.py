"""What the files routes answer: the OpenAI client's FileObject, with our digest and summary."""

from __future__ import annotations

from typing import Any, Literal

from app.files.tables import File
from app.kit.schema import Schema


class FileObject(Schema):
    """An uploaded file. `created_at` is in unix seconds; `summary` says what the reader found."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    sha256: str
    summary: dict[str, Any] | None

    @classmethod
    def of(cls, file: File) -> FileObject:
        """Build the answer from a row; rows are ours, so nothing is validated again."""
        return cls.model_construct(
            id=file.id,
            bytes=file.bytes,
            created_at=int(file.created_at),
            filename=file.filename,
            purpose=file.purpose,
            status=file.status,
            sha256=file.sha256,
            summary=file.summary,
        )


class FileList(Schema):
    """One page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class FileDeleted(Schema):
    """A file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
