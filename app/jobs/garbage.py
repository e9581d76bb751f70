"""What a crash can leave in the store without a row that points at it, found and removed.

Only what has not been touched for hours goes: bytes are always durable before their row exists, so
something younger may be just about to get one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select, update

from app.files.tables import File
from app.jobs.state import TERMINAL
from app.jobs.tables import Checkpoint, Job
from app.kit.clock import now
from app.kit.db import Database
from app.models.tables import Model
from app.spec.job import SPECS, makes_model
from app.store.durable import remove_folder
from app.store.layout import Layout
from app.telemetry import get_logger

log = get_logger(__name__)
MIN_AGE_S = 6 * 3600.0
CACHE_AGE_S = 30 * 86_400.0  # since an entry was last used
BATCH = 500


def collect_garbage(database: Database, layout: Layout, min_age_s: float = MIN_AGE_S) -> list[Path]:
    """Remove uploads and models without a row, and what finished jobs need no more; return what went."""
    _drop_parts(database)
    removed = [
        path
        for path in (
            *_files(database, layout),
            *_models(database, layout),
            *_runs(database, layout),
        )
        if _age_s(path) > min_age_s
    ]
    removed += [path for path in layout.root.glob("cache/*/*") if _age_s(path) > CACHE_AGE_S]
    for path in removed:
        log.info("store.garbage_removed", path=layout.relative(path))
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    return removed


def _drop_parts(database: Database) -> None:
    """Let go of the parts of outputs that were never finished: jobs that are over do not go on."""
    kinds = [kind for kind in SPECS if not makes_model(kind)]
    over = select(Job.id).where(Job.kind.in_(kinds), Job.state.in_(TERMINAL))
    with database.transaction() as session:
        session.execute(
            update(Checkpoint)
            .where(Checkpoint.state == "committed", Checkpoint.job_id.in_(over))
            .values(state="deleted")
        )


def _files(database: Database, layout: Layout) -> Iterable[Path]:
    paths = [path for path in layout.root.glob("files/file-*") if path.is_file()]
    for start in range(0, len(paths), BATCH):
        part = {path.name: path for path in paths[start : start + BATCH]}
        with database.read() as session:
            known = set(session.scalars(select(File.id).where(File.id.in_(part))))
        yield from (path for name, path in part.items() if name not in known)


def _models(database: Database, layout: Layout) -> Iterable[Path]:
    paths = [path for path in layout.root.glob("models/*") if path.is_dir()]
    for start in range(0, len(paths), BATCH):
        part = {layout.relative(path): path for path in paths[start : start + BATCH]}
        with database.read() as session:
            known = set(session.scalars(select(Model.folder).where(Model.folder.in_(part))))
        yield from (path for folder, path in part.items() if folder not in known)


def _runs(database: Database, layout: Layout) -> Iterable[Path]:
    """Yield what no committed checkpoint names, in the folders of jobs that are over or gone."""
    for folder in layout.root.glob("runs/job-*"):
        with database.read() as session:
            state = session.scalar(select(Job.state).where(Job.id == folder.name))
            if state is not None and state not in TERMINAL:
                continue
            kept = set(
                session.scalars(
                    select(Checkpoint.folder).where(
                        Checkpoint.job_id == folder.name, Checkpoint.state == "committed"
                    )
                )
            )
        if not kept:
            yield folder
            continue
        leaves = [*folder.glob("e*/checkpoints/*"), *folder.glob("e*/*")]
        for path in leaves:
            if path.name != "checkpoints" and layout.relative(path) not in kept:
                yield path


def _age_s(path: Path) -> float:
    try:
        return now() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
