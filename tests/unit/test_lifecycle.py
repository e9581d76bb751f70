"""The life of a job in the database: every guard, with nothing but rows and a clock."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select, text, update

import app.tables
from app.auth.tables import Tenant
from app.errors import LeaseLost, Unavailable
from app.jobs import lifecycle, recording, sweep
from app.jobs.lifecycle import Claim
from app.jobs.relay import has_due, relay
from app.jobs.state import TERMINAL, TRANSITIONS, State, mermaid
from app.jobs.tables import Checkpoint, Job, JobEvent, JobMetric, Outbox, Run
from app.kit.db import Database, database_now
from app.kit.ids import new_id
from app.queue.memory import MemoryQueue
from app.settings import Settings

TTL_S = 30.0
ENDINGS = ["succeed", "fail", "requeue", "cancelled"]


def make_database(folder: Path) -> Database:
    database = Database(f"sqlite:///{folder / 'test.db'}")
    app.tables.metadata.create_all(database.engine)
    with database.transaction() as session:
        session.add(Tenant(id="tenant-a", name="a", created_at=0.0))
    return database


def submit(database: Database, **values: Any) -> str:
    with database.transaction() as session:
        now = database_now(session)
        job = Job(
            id=new_id("job"), tenant_id="tenant-a", kind="fine_tune", spec={}, spec_sha256="",
            state=State.QUEUED, created_at=now, run_after=now, **values,
        )  # fmt: skip
        lifecycle.accept(session, job)
        return job.id


def claim(database: Database, worker: str = "w1") -> Claim | None:
    with database.transaction() as session:
        return lifecycle.claim_next(session, worker, TTL_S)


def claimed(database: Database, worker: str = "w1") -> Claim:
    result = claim(database, worker)
    assert result is not None
    return result


def expire(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(lease_expires_at=database_now(session) - 1)
        )


def state_of(database: Database, job_id: str) -> str:
    with database.read() as session:
        return session.execute(select(Job.state).where(Job.id == job_id)).scalar_one()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = make_database(tmp_path)
    yield database
    database.dispose()


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def checkpoint(owner: Claim, step: int, *, is_best: bool = False) -> Checkpoint:
    return Checkpoint(
        id=new_id("ckpt"), tenant_id=owner.tenant_id, job_id=owner.job_id, epoch=owner.epoch,
        step=step, folder=f"runs/{step}", manifest_sha256="", bytes=1, metrics={},
        is_best=is_best, state="committed", created_at=float(step),
    )  # fmt: skip


class TestClaim:
    def test_takes_the_oldest_once(self, database: Database) -> None:
        first, second = submit(database), submit(database)
        assert claimed(database).job_id == first
        assert claimed(database).job_id == second
        assert claim(database) is None

    def test_leaves_what_must_wait(self, database: Database) -> None:
        job_id = submit(database)
        with database.transaction() as session:
            session.execute(
                update(Job).where(Job.id == job_id).values(run_after=database_now(session) + 60)
            )
        assert claim(database) is None

    def test_raises_the_epoch_and_opens_a_run(self, database: Database) -> None:
        job_id = submit(database)
        first = claimed(database)
        with database.transaction() as session:
            lifecycle.requeue(session, first, "again", outcome="drained", delay_s=0, crashed=False)
        second = claimed(database, "w2")
        assert (first.epoch, second.epoch) == (1, 2)
        with database.read() as session:
            runs = session.scalars(
                select(Run).where(Run.job_id == job_id).order_by(Run.epoch)
            ).all()
        assert [run.outcome for run in runs] == ["drained", None]


class TestFence:
    def test_a_stale_run_writes_nothing(self, database: Database, config: Settings) -> None:
        submit(database)
        stale = claimed(database)
        expire(database, stale.job_id)
        sweep.sweep(database, config, "me")
        current = claimed(database, "w2")
        assert current.epoch == stale.epoch + 1
        writes = [
            lambda s: lifecycle.renew(s, stale, TTL_S),
            lambda s: lifecycle.fenced(s, stale, phase="training"),
            lambda s: recording.add_checkpoint(s, stale, checkpoint(stale, 1)),
            lambda s: lifecycle.succeed(s, stale, model_id="m", report={}, message="done"),
            lambda s: lifecycle.fail(s, stale, {"message": "no"}),
            lambda s: lifecycle.requeue(s, stale, "no", outcome="crashed", delay_s=0, crashed=True),
            lambda s: lifecycle.cancelled(s, stale),
        ]
        for write in writes:
            with pytest.raises(LeaseLost), database.transaction() as session:
                write(session)
        assert state_of(database, stale.job_id) == State.RUNNING
        with database.transaction() as session:
            lifecycle.succeed(session, current, model_id="m", report={}, message="done")
        assert state_of(database, stale.job_id) == State.SUCCEEDED

    def test_a_replayed_step_overwrites_its_metrics(self, database: Database) -> None:
        submit(database)
        owner = claimed(database)
        for value in (1.0, 2.0):
            with database.transaction() as session:
                lifecycle.fenced(session, owner)
                recording.add_metrics(session, owner, [(7, {"train/loss": value})])
        with database.read() as session:
            points = session.execute(select(JobMetric.step, JobMetric.value)).all()
        assert [tuple(point) for point in points] == [(7, 2.0)]

    def test_only_the_newest_and_the_best_checkpoints_stay(self, database: Database) -> None:
        submit(database)
        owner = claimed(database)
        for step in range(1, 6):
            with database.transaction() as session:
                recording.add_checkpoint(session, owner, checkpoint(owner, step, is_best=step == 2))
                recording.drop_checkpoints(session, owner, keep=2)
        with database.read() as session:
            rows = session.execute(select(Checkpoint.step, Checkpoint.state)).all()
        assert {step for step, state in rows if state == "committed"} == {2, 4, 5}


class TestCancel:
    def test_a_queued_job_at_once(self, database: Database) -> None:
        job_id = submit(database)
        with database.transaction() as session:
            assert lifecycle.request_cancel(session, job_id) == State.CANCELLED
        assert claim(database) is None

    def test_a_running_job_never_succeeds_after_it(self, database: Database) -> None:
        submit(database)
        owner = claimed(database)
        with database.transaction() as session:
            assert lifecycle.request_cancel(session, owner.job_id) == State.CANCELLING
        with database.transaction() as session:
            assert lifecycle.renew(session, owner, TTL_S).cancel_requested
        with pytest.raises(LeaseLost), database.transaction() as session:
            lifecycle.succeed(session, owner, model_id="m", report={}, message="done")
        with database.transaction() as session:
            lifecycle.cancelled(session, owner)
        assert state_of(database, owner.job_id) == State.CANCELLED

    def test_twice_is_once(self, database: Database) -> None:
        job_id = submit(database)
        for _ in range(2):
            with database.transaction() as session:
                assert lifecycle.request_cancel(session, job_id) == State.CANCELLED
        with database.read() as session:
            events = session.scalars(select(JobEvent).where(JobEvent.job_id == job_id)).all()
        assert [event.seq for event in events] == [1, 2]


class TestSweep:
    def test_requeues_until_the_crash_budget_is_spent(
        self, database: Database, config: Settings
    ) -> None:
        job_id = submit(database)
        for _ in range(config.crash_budget):
            claimed(database)
            expire(database, job_id)
            sweep.sweep(database, config, "me")
        assert state_of(database, job_id) == State.FAILED
        with database.read() as session:
            error = session.execute(select(Job.error)).scalar_one()
        assert error is not None
        assert error["code"] == "worker_lost"

    def test_a_checkpoint_renews_the_budget(self, database: Database, config: Settings) -> None:
        job_id = submit(database)
        for step in range(config.crash_budget + 2):
            owner = claimed(database)
            with database.transaction() as session:
                recording.add_checkpoint(session, owner, checkpoint(owner, step))
            expire(database, job_id)
            sweep.sweep(database, config, "me")
        assert state_of(database, job_id) == State.QUEUED

    def test_cancels_what_its_worker_could_not(self, database: Database, config: Settings) -> None:
        submit(database)
        owner = claimed(database)
        with database.transaction() as session:
            lifecycle.request_cancel(session, owner.job_id)
        expire(database, owner.job_id)
        sweep.sweep(database, config, "me")
        assert state_of(database, owner.job_id) == State.CANCELLED

    def test_fails_a_job_whose_deadline_passes_in_the_queue(
        self, database: Database, config: Settings
    ) -> None:
        job_id = submit(database, deadline_at=1.0)
        sweep.sweep(database, config, "me")
        assert state_of(database, job_id) == State.FAILED

    def test_one_replica_leads(self, database: Database) -> None:
        with database.transaction() as session:
            assert sweep.lead(session, "sweep", "one", 60)
            assert not sweep.lead(session, "sweep", "two", 60)
            assert sweep.lead(session, "sweep", "one", -1)
            assert sweep.lead(session, "sweep", "two", 60)


class TestRelay:
    def test_delivers_each_hint_once(self, database: Database) -> None:
        jobs = [submit(database), submit(database)]
        queue = MemoryQueue()
        assert relay(database, queue) == len(jobs)
        assert queue.sent == jobs
        assert not has_due(database)

    def test_keeps_hints_while_the_broker_is_down(self, database: Database) -> None:
        job_id = submit(database)
        queue = MemoryQueue()
        queue.is_down = True
        with pytest.raises(Unavailable):
            queue.check()
        assert relay(database, queue) == 0
        queue.is_down = False
        with database.transaction() as session:
            session.execute(update(Outbox).values(available_at=0.0))
        assert relay(database, queue) == 1
        assert queue.sent == [job_id]

    def test_a_lost_hint_is_sent_again(self, database: Database, config: Settings) -> None:
        job_id = submit(database)
        queue = MemoryQueue()
        relay(database, queue)
        with database.transaction() as session:
            session.execute(update(Job).values(dispatched_at=1.0, run_after=1.0))
        sweep.sweep(database, config, "me")
        relay(database, queue)
        assert queue.sent == [job_id, job_id]


def test_the_documents_show_the_table_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "architecture.md"
    assert mermaid() in page.read_text()


class LifeOfJobs(RuleBasedStateMachine):
    """Any order of claims, beats, crashes, cancels and sweeps keeps the invariants."""

    def __init__(self) -> None:
        super().__init__()

        self.folder = tempfile.TemporaryDirectory()
        self.database = make_database(Path(self.folder.name))
        with self.database.transaction() as session:
            session.execute(text("PRAGMA foreign_keys=ON"))
        self.settings = Settings(home=Path(self.folder.name), retry_backoff_s=0.0)
        self.claims: list[Claim] = []
        self.jobs: list[str] = []
        self.finals: dict[str, str] = {}

    def teardown(self) -> None:
        self.database.dispose()
        self.folder.cleanup()

    @rule()
    def submit(self) -> None:
        self.jobs.append(submit(self.database))

    @rule()
    def claim(self) -> None:
        owner = claim(self.database)
        if owner is not None:
            self.claims.append(owner)

    @precondition(lambda self: self.claims)
    @rule(index=strategies.integers(0, 50), ending=strategies.sampled_from(ENDINGS))
    def end(self, index: int, ending: str) -> None:
        owner = self.claims[index % len(self.claims)]
        try:
            with self.database.transaction() as session:
                if ending == "succeed":
                    lifecycle.succeed(session, owner, model_id="m", report={}, message="ok")
                elif ending == "fail":
                    lifecycle.fail(session, owner, {"message": "no"})
                elif ending == "requeue":
                    lifecycle.requeue(
                        session, owner, "again", outcome="crashed", delay_s=0, crashed=True
                    )
                else:
                    lifecycle.cancelled(session, owner)
        except LeaseLost:
            return

    @precondition(lambda self: self.jobs)
    @rule(index=strategies.integers(0, 50))
    def cancel(self, index: int) -> None:
        with self.database.transaction() as session:
            lifecycle.request_cancel(session, self.jobs[index % len(self.jobs)])

    @precondition(lambda self: self.jobs)
    @rule(index=strategies.integers(0, 50))
    def silence(self, index: int) -> None:
        expire(self.database, self.jobs[index % len(self.jobs)])
        sweep.sweep(self.database, self.settings, "me")

    @invariant()
    def history_is_legal_and_final(self) -> None:
        with self.database.read() as session:
            for job in session.scalars(select(Job)):
                events = session.scalars(
                    select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.seq)
                ).all()
                assert [event.seq for event in events] == list(range(1, job.last_seq + 1))
                states = [e.data["state"] for e in events if e.type == "state" and e.data]
                pairs = set(itertools.pairwise(states))
                assert pairs <= set(TRANSITIONS)
                assert states[-1] == job.state
                if job.state in TERMINAL:
                    assert self.finals.setdefault(job.id, job.state) == job.state


LifeOfJobs.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLifeOfJobs = LifeOfJobs.TestCase
