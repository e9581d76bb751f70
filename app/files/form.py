"""One multipart form as it arrives: the part `file` goes to a sink, short fields are kept.

It knows RFC 7578 and limits; it refuses to know where bytes end up. Nothing here waits or does I/O.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE_FIELD = "file"
TEXT_FIELDS = frozenset({"purpose"})
MAX_PARTS = 8
MAX_TEXT_BYTES = 1024
MAX_FILENAME = 255
# What makes a name look like another one (UAX #9 overrides and isolates).
DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UploadForm:
    """Feed it the body's chunks, then `finish`; `sink` gets the file's bytes in order."""

    def __init__(self, content_type: str, sink: Callable[[bytes], None], max_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            message = "send the file as multipart/form-data, in a part named 'file'"
            raise InvalidRequest(message, param=FILE_FIELD, code="not_multipart")
        self.sink = sink
        self.max_bytes = max_bytes
        self.filename: str | None = None
        self.fields: dict[str, str] = {}
        self.size = 0
        self._name = ""
        self._text = bytearray()
        self._header = (bytearray(), bytearray())
        self._headers: dict[str, str] = {}
        self._parts = 0
        self._is_complete = False
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            message = f"the multipart boundary cannot be used: {error}"
            raise InvalidRequest(message, param="body", code="broken_multipart") from error

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            InvalidRequest: not a form of the fields that are known; `param` names the field.
            TooLarge: the file is past the limit, by the bytes that came.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            message = f"the multipart body is broken: {error}"
            raise InvalidRequest(message, param="body", code="broken_multipart") from error

    def finish(self) -> str:
        """Return the file's name, once the whole form has come.

        Raises:
            InvalidRequest: the body was cut off, or held no file.
        """
        if not self._is_complete:
            message = "the upload was cut off before its end; nothing was stored"
            raise InvalidRequest(message, param=FILE_FIELD, code="upload_cut_off")
        if self.filename is None:
            message = "the form has no part named 'file'"
            raise InvalidRequest(message, param=FILE_FIELD, code="missing_file")
        return self.filename

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            message = f"the form has more than {MAX_PARTS} parts"
            raise InvalidRequest(message, param="body")
        self._headers = {}
        self._text.clear()

    def _end_header(self) -> None:
        name, value = (part.decode("latin-1") for part in self._header)
        self._headers[name.lower()] = value
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._name = _text(options.get(b"name", b""))
        if self._name == FILE_FIELD:
            if self.filename is not None:
                message = "the form has two parts named 'file'; upload one file a request"
                raise InvalidRequest(message, param=FILE_FIELD)
            self.filename = checked_filename(_text(options.get(b"filename", b"")))
        elif self._name not in TEXT_FIELDS:
            known = ", ".join(sorted({FILE_FIELD, *TEXT_FIELDS}))
            message = f"unknown field {self._name[:64]!r}; the form takes: {known}"
            raise InvalidRequest(message, param=self._name[:64] or "body", code="unknown_field")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self.size += end - start
            if self.size > self.max_bytes:
                message = f"the file is larger than {self.max_bytes} bytes, the limit"
                raise TooLarge(message, param=FILE_FIELD, details={"limit": self.max_bytes})
            self.sink(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_TEXT_BYTES:
            message = f"{self._name} is longer than {MAX_TEXT_BYTES} bytes"
            raise InvalidRequest(message, param=self._name)

    def _end_part(self) -> None:
        if self._name != FILE_FIELD:
            self.fields[self._name] = _text(bytes(self._text))

    def _end(self) -> None:
        self._is_complete = True


def checked_filename(name: str) -> str:
    """Return a name that is safe to store and to show.

    Raises:
        InvalidRequest: none, too long, a path, or with characters that people cannot see.
    """
    fault = None
    if not name.strip():
        fault = "the part 'file' needs a filename, such as reviews.csv"
    elif len(name) > MAX_FILENAME:
        fault = f"the filename is longer than {MAX_FILENAME} characters"
    elif "/" in name or "\\" in name or name in {".", ".."}:
        fault = "the filename must be a plain name, not a path"
    elif any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in name) or (
        DIRECTION_MARKS & set(name)
    ):
        fault = "the filename holds control characters"
    if fault is not None:
        raise InvalidRequest(fault, param=FILE_FIELD, code="invalid_filename")
    return name


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    # How browsers and clients write what would end the quoted name (WHATWG, multipart/form-data).
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
