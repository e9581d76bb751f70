"""Supervised children: real processes that die, hang and leave things behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.cli import supervisor as module
from app.cli.exits import Code, Failure
from app.cli.instance import Instance
from app.cli.supervisor import Child, Supervisor, tail
from tests.waiting import is_alive, wait_until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]):
    supervisor = Supervisor(said.append)
    yield supervisor
    hurry = threading.Event()
    hurry.set()
    supervisor.stop(*(child.name for child in supervisor.children), hurry=hurry)


def child(folder: Path, name: str, code: str, stop_s: float = 5.0) -> Child:
    command = [sys.executable, "-c", code]
    return Child(name, command, folder / f"{name}.log", dict(os.environ), stop_s)


def ticking(supervisor: Supervisor, condition):
    def step():
        supervisor.tick()
        return condition()

    return wait_until(step)


def test_a_child_that_dies_is_started_again(supervisor, said, tmp_path: Path):
    one = child(tmp_path, "one", "import time; time.sleep(60)")
    supervisor.start(one)
    assert one.process is not None
    first = one.process
    os.kill(first.pid, signal.SIGKILL)
    ticking(supervisor, lambda: one.is_alive and one.process is not first)
    assert one.deaths == 1
    assert "one was killed by SIGKILL" in said[0]


def test_each_death_waits_longer(supervisor, said, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.01)
    one = child(tmp_path, "one", "import sys; sys.exit('no luck')")
    supervisor.start(one)
    ticking(supervisor, lambda: one.deaths == 4)
    assert [line.split(" in ")[1].split(" s")[0] for line in said] == [
        "0.01",
        "0.02",
        "0.04",
        "0.08",
    ]
    assert "no luck" in tail(one.log)


def test_children_end_in_the_order_given(supervisor, tmp_path: Path):
    code = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(tmp_path / 'order')!r}, 'a').write('NAME '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    for name in ("a", "b", "c"):
        supervisor.start(child(tmp_path, name, code.replace("NAME", name)))
    wait_until(lambda: all("up" in tail(c.log) for c in supervisor.children))
    supervisor.stop("b", "c", "a")
    assert (tmp_path / "order").read_text().split() == ["b", "c", "a"]
    assert supervisor.children == []


def test_one_that_does_not_listen_is_killed_with_its_family(supervisor, tmp_path: Path):
    code = STUBBORN + (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(60)']); print(p.pid, flush=True); time.sleep(60)"
    )
    one = child(tmp_path, "one", code, stop_s=0.3)
    supervisor.start(one)
    grandchild = int(wait_until(lambda: tail(one.log).strip()))
    supervisor.stop("one")
    wait_until(lambda: not is_alive(grandchild))


def test_hurry_does_not_wait(supervisor, tmp_path: Path):
    one = child(tmp_path, "one", STUBBORN + "print('up', flush=True); time.sleep(60)", stop_s=60)
    supervisor.start(one)
    wait_until(lambda: "up" in tail(one.log))
    hurry = threading.Event()
    hurry.set()
    supervisor.stop("one", hurry=hurry)
    assert one.process is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_children_die_with_a_killed_supervisor(tmp_path: Path):
    script = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from app.cli.supervisor import Child, Supervisor\n"
        "supervisor = Supervisor(print)\n"
        "one = Child('one', [sys.executable, '-c', 'import time; time.sleep(60)'],"
        f" Path({str(tmp_path)!r}) / 'one.log', dict(os.environ), 5.0)\n"
        "supervisor.start(one)\nprint(one.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert is_alive(pid)
        starter.kill()
    wait_until(lambda: not is_alive(pid))


def test_a_long_log_is_cut_and_one_old_one_kept(supervisor, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 1000)
    code = "import time; print('x' * 2000, flush=True); time.sleep(60)"
    one = child(tmp_path, "one", code)
    supervisor.start(one)
    ticking(supervisor, (tmp_path / "one.log.1").exists)
    assert one.log.stat().st_size == 0
    assert one.log.stat().st_mode & 0o777 == 0o600


def test_a_home_has_one_owner(tmp_path: Path):
    first, second = Instance(tmp_path), Instance(tmp_path)
    assert second.running() is None
    first.take()
    first.note("http://127.0.0.1:8000", is_ready=True)
    with pytest.raises(Failure, match=r"already up .* at http://127\.0\.0\.1:8000") as caught:
        second.take()
    assert caught.value.code == Code.CONFLICT
    running = second.running()
    assert running is not None
    assert (running.pid, running.is_ready) == (os.getpid(), True)
    first.release()
    second.take()
    second.release()
