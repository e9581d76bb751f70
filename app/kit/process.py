"""Children that do not outlive us: in a session of their own, tied to the thread that starts them.

Knows nothing of what it starts. Spawn in a thread that lives as long as the child should: Linux
sends the parent-death signal when the *thread* ends. Elsewhere there is no such tie.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in its own session, so that Ctrl-C reaches us alone and we decide about it.

    `death_signal` is what the kernel sends the child when we die without saying goodbye.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        preexec_fn=_tie_to(os.getpid(), death_signal),  # noqa: PLW1509 - it only makes two system calls
    )


def python(module: str, *arguments: str) -> list[str]:
    """Return the command for a module of ours; -P, or a folder `app` in the caller's place wins."""
    return [sys.executable, "-P", "-m", module, *arguments]


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a child and whatever it left in its session's process group, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tie_to(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(
        None
    ).prctl  # looked up before the fork: the loader's lock may be held after it

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died between the fork and the call above
            os._exit(1)

    return tie
