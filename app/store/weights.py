"""Is a model folder safe to load? Answered from bytes alone, before any library touches them.

Weights are safetensors, whose header is checked against the file (format: 8 bytes little-endian
header length, JSON header, tensor bytes; https://huggingface.co/docs/safetensors). Configs that ask
for code of their own are refused, and so are pickled weights.
"""

from __future__ import annotations

import json
import math
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

from app.errors import UnsafeModel

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_CONFIG_BYTES = 16 * 1024 * 1024
FORBIDDEN_KEYS = frozenset({"auto_map", "trust_remote_code", "custom_pipelines"})
PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
              "tokenizer.model")  # fmt: skip
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


def check_model_folder(folder: Path, name: str) -> dict[str, Any]:
    """Return the folder's `config.json` if everything in it may be loaded.

    Raises:
        UnsafeModel: a file is missing, weights are pickled or malformed, or a config asks for code.
    """
    config = _json_file(folder / "config.json", name)
    for path in sorted(folder.glob("*.json")):
        found = _forbidden_key(_json_file(path, name))
        if found is not None:
            message = f"{name}: {path.name} has {found!r}; models that bring code are not loaded"
            raise UnsafeModel(message, param="model", code="remote_code",
                              details={"file": path.name, "key": found})  # fmt: skip
    for weights in weight_files(folder, name):
        check_safetensors(weights, name)
    if not any((folder / tokenizer).is_file() for tokenizer in TOKENIZERS):
        message = f"{name} has no tokenizer; one of these is needed: {', '.join(TOKENIZERS)}"
        raise UnsafeModel(message, param="model", code="missing_file")
    return config


def weight_files(folder: Path, name: str) -> list[Path]:
    """Return the safetensors files of a model, one or as many as its index names."""
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_json_file(index, name).get("weight_map", {}).values()))
        missing = [n for n in names if Path(n).name != n or not (folder / n).is_file()]
        if not missing and names:
            return [folder / part for part in names]
        message = f"{name}: the weight index names files that are not there: {missing}"
        raise UnsafeModel(message, param="model", code="missing_file")
    pickled = [path.name for pattern in PICKLED for path in folder.glob(pattern)]
    if pickled:
        message = (
            f"{name} has pickled weights only ({pickled[0]}), which can run code when loaded; "
            "convert them to safetensors: from_pretrained(...).save_pretrained(folder)"
        )
        raise UnsafeModel(
            message, param="model", code="pickled_weights", details={"files": pickled}
        )
    message = f"{name} has no model.safetensors"
    raise UnsafeModel(message, param="model", code="missing_file")


def check_safetensors(path: Path, name: str) -> None:
    """Check a header's size, and that the tensors lie in the file without overlap."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0  # noqa: PLR2004
        if not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
            raise _malformed(path, name, "the header length is not plausible")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise _malformed(path, name, "the header is not JSON") from None
    if not isinstance(header, dict):
        raise _malformed(path, name, "the header is not an object")
    spans: list[tuple[int, int]] = []
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        try:
            start, end, expected = _span(entry)
        except (KeyError, TypeError, ValueError):
            raise _malformed(path, name, f"the entry of {tensor!r} is not valid") from None
        if not 0 <= start <= end <= size - 8 - length or end - start != expected:
            raise _malformed(path, name, f"{tensor!r} does not lie within the file")
        spans.append((start, end))
    spans.sort()
    if any(first[1] > second[0] for first, second in pairwise(spans)):
        raise _malformed(path, name, "tensors overlap")


def _span(entry: Any) -> tuple[int, int, int]:
    """Return where a tensor begins and ends, and how many bytes it should have."""
    start, end = entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (start, end, *entry["shape"])):
        message = "sizes and offsets are whole numbers from 0"
        raise ValueError(message)
    return start, end, DTYPE_BYTES[entry["dtype"]] * math.prod(entry["shape"])


def num_parameters(path: Path) -> int:
    """Return how many numbers a checked safetensors file holds."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    return sum(math.prod(e["shape"]) for key, e in header.items() if key != "__metadata__")


def _malformed(path: Path, name: str, why: str) -> UnsafeModel:
    message = f"{name}: {path.name} is not a sound safetensors file: {why}"
    return UnsafeModel(message, param="model", code="malformed_weights")


def _json_file(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES and path.name != "tokenizer.json":
            message = f"{name}: {path.name} is too large for what it is"
            raise UnsafeModel(message, param="model", code="malformed_config")
        value = json.loads(path.read_bytes())
    except OSError:
        message = f"{name} has no {path.name}"
        raise UnsafeModel(message, param="model", code="missing_file") from None
    except (ValueError, RecursionError):
        message = f"{name}: {path.name} is not valid JSON"
        raise UnsafeModel(message, param="model", code="malformed_config") from None
    return value if isinstance(value, dict) else {}


def _forbidden_key(value: Any) -> str | None:
    """Return the first key that asks for code, at any depth; false and null ask for nothing."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                if key in FORBIDDEN_KEYS and inner:
                    return str(key)
                stack.append(inner)
        elif isinstance(item, list):
            stack.extend(item)
    return None
