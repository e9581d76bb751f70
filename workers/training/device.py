"""The device a run is on: which one, how it is made deterministic, what it says of itself."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers

from app import __version__
from app.errors import TrainingFailed

CGROUP = Path("/sys/fs/cgroup")


def choose_device(wanted: str) -> torch.device:
    """Return the device of a spec.

    Raises:
        TrainingFailed: `cuda` was asked for and this worker has none.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        message = "the spec asks for a GPU and this worker has none"
        raise TrainingFailed(message, code="no_gpu", param="runtime.device")
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def make_deterministic() -> None:
    """Choose deterministic kernels: with per-step seeds, a step is a function of its inputs."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def seed_step(seed: int, step: int) -> None:
    """Seed every generator from (seed, step): dropout is drawn afresh, not carried along."""
    value = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]) % 2**63
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 - third-party code draws from the global one
    torch.manual_seed(value)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which the network runs."""
    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def has_bf16(device: torch.device) -> bool:
    """Say whether the device computes in bf16 itself; emulated, it is slower than fp32."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def free_memory_bytes(device: torch.device) -> int:
    """Return what is free on the device that will train."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _left_to_container())


def _left_to_container() -> int:
    """Return what a control group leaves to this process: the host's memory is not a container's."""
    try:
        limit = CGROUP.joinpath("memory.max").read_text().strip()
        used = int(CGROUP.joinpath("memory.current").read_text())
    except (OSError, ValueError):
        return sys.maxsize
    return max(0, int(limit) - used) if limit.isdigit() else sys.maxsize


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether a device's memory, or this machine's, did not hold what was asked for.

    The CPU's allocator raises a plain RuntimeError with one of these texts (c10/core/impl/alloc_cpu.cpp).
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in ("not enough memory", "can't allocate memory"))


def used_memory_mb(device: torch.device) -> float:
    """Return the peak of the GPU's memory, or this process's resident memory, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a result depends on: versions, hardware, threads. Same values, same bits."""
    facts: dict[str, Any] = {
        "attune": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": str(device),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return facts
