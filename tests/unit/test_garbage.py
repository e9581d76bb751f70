"""What a crash leaves in the store goes; what a row points at, or is young, stays."""

from __future__ import annotations

from pathlib import Path

from app.auth.tables import Tenant
from app.files.tables import File
from app.jobs import lifecycle, recording
from app.jobs.garbage import collect_garbage
from app.jobs.state import State
from app.jobs.tables import Checkpoint, Job
from app.kit.db import Database, database_now
from app.store.layout import Layout
from app.tables import metadata


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("bytes")
    return path


def test_only_what_nothing_points_at_goes(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    metadata.create_all(database.engine)
    layout = Layout(tmp_path / "store")
    known, orphan = (write(layout.file(f"file-{n * 26}")) for n in ("1", "2"))
    with database.transaction() as session:
        session.add(Tenant(id="tenant-a", name="a", created_at=0.0))
        session.flush()
        now = database_now(session)
        session.add(
            File(id=known.name, tenant_id="tenant-a", filename="f", purpose="fine-tune", bytes=5,
                 sha256="", status="processed", created_at=now)
        )  # fmt: skip
        job = Job(id="job-a", tenant_id="tenant-a", kind="fine_tune", spec={}, spec_sha256="",
                  state=State.QUEUED, created_at=now, run_after=now)  # fmt: skip
        lifecycle.accept(session, job)
    with database.transaction() as session:
        claim = lifecycle.claim_next(session, "w", 30.0)
    assert claim is not None
    run = layout.run("job-a", claim.epoch)
    kept = write(run / "checkpoints" / "step-00000002" / "state.json").parent
    stale = write(run / "checkpoints" / "step-00000001" / "state.json").parent
    half = write(run / ".tmp-1" / "model.safetensors").parent
    model = write(layout.model("a-e0001") / "config.json").parent
    with database.transaction() as session:
        recording.add_checkpoint(
            session, claim,
            Checkpoint(id="ckpt-a", tenant_id="tenant-a", job_id="job-a", epoch=1, step=2,
                       folder=layout.relative(kept), manifest_sha256="", bytes=1, metrics={},
                       is_best=True, state="committed", created_at=now),
        )  # fmt: skip
    assert collect_garbage(database, layout) == []
    assert set(collect_garbage(database, layout, min_age_s=-1)) == {orphan, model}
    with database.transaction() as session:
        lifecycle.fail(session, claim, {"message": "no"})
    assert set(collect_garbage(database, layout, min_age_s=-1)) == {stale, half}
    assert known.exists()
    assert kept.exists()
    assert not stale.exists()
    database.dispose()


def test_parts_of_an_output_go_with_their_job(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    metadata.create_all(database.engine)
    layout = Layout(tmp_path / "store")
    with database.transaction() as session:
        session.add(Tenant(id="tenant-a", name="a", created_at=0.0))
        session.flush()
        now = database_now(session)
        job = Job(id="job-a", tenant_id="tenant-a", kind="batch_predict", spec={}, spec_sha256="",
                  state=State.QUEUED, created_at=now, run_after=now)  # fmt: skip
        lifecycle.accept(session, job)
    with database.transaction() as session:
        claim = lifecycle.claim_next(session, "w", 30.0)
    assert claim is not None
    part = write(layout.run("job-a", 1) / "checkpoints" / "step-00000010" / "part.jsonl").parent
    with database.transaction() as session:
        recording.add_checkpoint(
            session, claim,
            Checkpoint(id="ckpt-a", tenant_id="tenant-a", job_id="job-a", epoch=1, step=10,
                       folder=layout.relative(part), manifest_sha256="", bytes=1, metrics={},
                       is_best=False, state="committed", created_at=now),
        )  # fmt: skip
    assert collect_garbage(database, layout, min_age_s=-1) == [], "the next run goes on from it"
    with database.transaction() as session:
        lifecycle.fail(session, claim, {"message": "no"})
    assert collect_garbage(database, layout, min_age_s=-1) == [layout.job_runs("job-a")]
    with database.read() as session:
        assert session.get_one(Checkpoint, "ckpt-a").state == "deleted"
    database.dispose()
