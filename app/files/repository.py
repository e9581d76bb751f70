"""Uploaded files in the database, within one tenant."""

from __future__ import annotations

from app.files.tables import File
from app.kit.repository import Page, Repository


class FileRepository(Repository[File]):
    """Files of a tenant."""

    table = File
    noun = "file"

    def add(self, file: File) -> File:
        """Insert a file, whose bytes are durable already."""
        self.session.add(file)
        self.session.flush()
        return file

    def remove(self, file: File) -> None:
        """Delete a file's row; its bytes are the caller's to remove once this has committed."""
        self.session.delete(file)
        self.session.flush()

    def list_page(
        self, *, after: str | None, limit: int, descending: bool, purpose: str | None = None
    ) -> Page[File]:
        """Return one page of the files, of one purpose when it is given."""
        query = self.scoped()
        if purpose is not None:
            query = query.where(File.purpose == purpose)
        return self.page(query, after=after, limit=limit, descending=descending)
