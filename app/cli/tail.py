"""Showing the children's logs as they grow, each line with its child's name."""

from __future__ import annotations

import threading
from pathlib import Path

from app.cli.output import Output

POLL_S = 0.2
STYLES = {"api": "cyan", "worker": "magenta", "broker": "blue"}


def follow(folder: Path, out: Output) -> None:
    """Print what is appended to the logs of a folder from now on, in a daemon thread."""
    threading.Thread(target=_follow, args=(folder, out), name="log-tail", daemon=True).start()


def _follow(folder: Path, out: Output) -> None:
    from rich.text import Text

    positions = {path: path.stat().st_size for path in folder.glob("*.log")}
    while True:
        for path in sorted(folder.glob("*.log")):
            length = path.stat().st_size
            start = min(positions.get(path, 0), length)  # a log that was cut starts over
            if length > start:
                with path.open("rb") as file:
                    file.seek(start)
                    chunk = file.read(length - start)
                whole = chunk[: chunk.rfind(b"\n") + 1]
                positions[path] = start + len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    name = Text(f"{path.stem:<7}", style=STYLES.get(path.stem, "dim"))
                    out.talk.print(name.append(f" {line}", style="default"))
        threading.Event().wait(POLL_S)
