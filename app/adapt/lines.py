"""Text files as numbered lines in bounded memory, for the text readers.

It owns encodings, line ends and what is not text at all. It refuses to know what a line means.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from app.errors import InvalidData

CHUNK_BYTES = 256 * 1024
SAMPLE_BYTES = 64 * 1024
ARCHIVES = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
)
PARQUET_MAGIC = b"PAR1"
UTF16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its end; `text` is None when it is longer than the reader allows."""

    number: int
    text: str | None


def head(path: Path, size: int = SAMPLE_BYTES) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)


def check_container(path: Path, filename: str) -> bytes:
    """Return the file's first bytes, once they show that it is neither empty nor an archive.

    Raises:
        InvalidData: `empty_file` or `archive`.
    """
    start = head(path)
    if not start:
        refuse(filename, "empty_file", "the file is empty")
    for magic, name in ARCHIVES:
        if start.startswith(magic):
            message = f"this is a {name} archive; unpack it and upload the file itself"
            refuse(filename, "archive", message, found=name)
    return start


def read_lines(path: Path, filename: str, max_bytes: int) -> Iterator[Line]:
    r"""Yield the lines of a UTF-8 file (or UTF-16 with a byte order mark), numbered from 1.

    Lines end with \n, \r\n, or \r where the file's beginning has no \n; the end stays on the line.
    A line longer than `max_bytes` of UTF-8 is not kept in memory: it comes without text.

    Raises:
        InvalidData: `empty_file`, `archive`, `wrong_format` (a Parquet file), `nul_byte`, or
            `wrong_encoding` with the byte offset, the line and the likely encoding.
    """
    start = check_container(path, filename)
    if start.startswith(PARQUET_MAGIC):
        message = "this is a Parquet file; name it .parquet"
        refuse(filename, "wrong_format", message, found="parquet")
    encoding = next((name for mark, name in UTF16 if start.startswith(mark)), None)
    sample = start if encoding is None else start[2:].decode(encoding, "ignore").encode()
    end = b"\r" if b"\r" in sample and b"\n" not in sample else b"\n"
    for number, raw in enumerate(_split(_chunks(path, filename, encoding), end, max_bytes), 1):
        if raw is None:
            yield Line(number, None)
            continue
        line, size = raw
        if b"\0" in line:
            message = f"line {number} holds a NUL byte: the file is damaged or not text"
            refuse(filename, "nul_byte", message, row=number)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            offset = size - len(line) + error.start
            _wrong_encoding(path, filename, number, offset, line[error.start])
        yield Line(number, text.removeprefix("\ufeff") if number == 1 else text)


def _chunks(path: Path, filename: str, encoding: str | None) -> Iterator[bytes]:
    """Yield the file as UTF-8; what claims to be UTF-8 passes as it is, to be checked by line."""
    with path.open("rb") as file:
        if encoding is None:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            return
        file.seek(2)
        decoder = codecs.getincrementaldecoder(encoding)()
        lines = 1
        try:
            while chunk := file.read(CHUNK_BYTES):
                text = decoder.decode(chunk).encode()
                lines += text.count(b"\n")
                yield text
            decoder.decode(b"", final=True)
        except UnicodeError as error:
            message = f"the file says it is {encoding.upper()} but is not (near line {lines})"
            details = {"file": filename, "row": lines, "byte": file.tell()}
            raise InvalidData(
                f"{filename}: {message}", param="file", code="wrong_encoding", details=details
            ) from error


def _split(
    chunks: Iterator[bytes], end: bytes, max_bytes: int
) -> Iterator[tuple[bytes, int] | None]:
    """Yield (line, offset of its end), or None for a line that is too long."""
    rest = b""
    position = 0
    is_skipping = False
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(end)
        for line in lines:
            position += len(line) + 1
            if is_skipping or len(line) > max_bytes:
                is_skipping = False
                yield None
            else:
                yield line + end, position
        if len(rest) > max_bytes:
            is_skipping = True
        if is_skipping:
            position += len(rest)
            rest = b""
    if is_skipping:
        yield None
    elif rest:
        yield rest, position + len(rest)


def _wrong_encoding(path: Path, filename: str, line: int, offset: int, byte: int) -> NoReturn:
    likely = _likely_encoding(path, offset)
    hint = f"; it looks like {likely}" if likely else ""
    message = (
        f"line {line}, byte {offset} (0x{byte:02x}) is not UTF-8{hint}: save the file as UTF-8"
    )
    refuse(filename, "wrong_encoding", message, row=line, byte=offset, likely=likely)


def _likely_encoding(path: Path, offset: int) -> str | None:
    from charset_normalizer import from_bytes

    with path.open("rb") as file:
        file.seek(max(0, offset - SAMPLE_BYTES // 2))
        best = from_bytes(file.read(SAMPLE_BYTES)).best()
    return best.encoding if best is not None else None


def refuse(filename: str, code: str, message: str, **details: Any) -> NoReturn:
    """Raise the `InvalidData` that turns a whole file down; details that are None are left out."""
    facts = {"file": filename, **{k: v for k, v in details.items() if v is not None}}
    raise InvalidData(f"{filename}: {message}", param="file", code=code, details=facts)
