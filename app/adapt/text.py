"""Opening text files that people upload: which encoding, and exactly where it is broken if it is."""

from __future__ import annotations

import codecs
from pathlib import Path

from app.errors import InvalidData

CHUNK_BYTES = 1024 * 1024
SAMPLE_BYTES = 64 * 1024
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip (or an Excel file)",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7-zip",
    b"\xd0\xcf\x11\xe0": "old Excel",
}


def check_text(path: Path, filename: str) -> str:
    """Return the file's encoding: `utf-8-sig` (with or without a mark) or `utf-16` (with one).

    Raises:
        InvalidData: empty, an archive, binary, or in another encoding (byte and line are named).
    """
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
    if not head.strip():
        raise _refuse(filename, "empty_file", "the file is empty")
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise _refuse(filename, "archive", f"this is a {kind} file; upload the data itself")
    encoding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in head:
        raise _refuse(filename, "binary_file", "the file holds NUL bytes: it is not a text file")
    _check_decodes(path, filename, encoding)
    return encoding


def _check_decodes(path: Path, filename: str, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, lines, tail = 0, 1, b""
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                # The decoder counts from what it kept of the chunk before.
                kept = len(error.object) - len(chunk)
                position = offset - kept + error.start
                line = lines + (tail + chunk)[: len(tail) + error.start - kept].count(b"\n")
                raise _wrong_encoding(path, filename, position, line) from None
            if not chunk:
                return
            offset += len(chunk)
            lines += chunk.count(b"\n")


def _wrong_encoding(path: Path, filename: str, offset: int, line: int) -> InvalidData:
    import charset_normalizer  # noqa: PLC0415 - for a message that is rarely needed

    with path.open("rb") as file:
        file.seek(max(0, offset - SAMPLE_BYTES // 2))
        best = charset_normalizer.from_bytes(file.read(SAMPLE_BYTES)).best()
    guess = f"; it looks like {best.encoding}" if best is not None else ""
    message = (
        f"byte {offset} (line {line}) is not UTF-8{guess}; save the file as UTF-8 and upload it again"
    )
    error = _refuse(filename, "wrong_encoding", message)
    error.details |= {"row": line, "byte": offset}
    return error


def _refuse(filename: str, code: str, message: str) -> InvalidData:
    return InvalidData(
        f"{filename}: {message}", param="file", code=code, details={"file": filename}
    )
