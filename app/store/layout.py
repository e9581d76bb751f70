"""The only place that knows where things lie in the store. Every part of a path is an id we made.

- `files/<file id>`: uploaded bytes
- `runs/<job id>/e<epoch>/`: a run's own folder: checkpoints, the model being made
- `models/<name>/`: finished models
- `cache/<tenant id>/<key>/`: what may be computed again: a teacher's answers
"""

from __future__ import annotations

import re
from pathlib import Path

SAFE = re.compile(r"^[a-z0-9][a-z0-9-]{0,63}$")


class Layout:
    """Paths under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, file_id: str) -> Path:
        """Return where an upload's bytes lie."""
        return self.root / "files" / _safe(file_id)

    def job_runs(self, job_id: str) -> Path:
        """Return the folder of all runs of a job."""
        return self.root / "runs" / _safe(job_id)

    def run(self, job_id: str, epoch: int) -> Path:
        """Return the folder that one run may write to; a stale run has another."""
        return self.job_runs(job_id) / f"e{epoch:04d}"

    def model(self, name: str) -> Path:
        """Return the folder of a finished model."""
        return self.root / "models" / _safe(name)

    def cache(self, tenant_id: str) -> Path:
        """Return the folder of what a tenant's jobs share and may lose."""
        return self.root / "cache" / _safe(tenant_id)

    def relative(self, path: Path) -> str:
        """Return a path of the store as rows keep it: relative to the root."""
        return str(path.relative_to(self.root))

    def absolute(self, relative: str) -> Path:
        """Return the path of a row's relative one."""
        return self.root / relative


def _safe(part: str) -> str:
    if not SAFE.fullmatch(part):
        message = f"not a store id: {part!r}"
        raise ValueError(message)
    return part
