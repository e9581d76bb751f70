"""The embedded broker: a real server, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from app.errors import Conflict, Unavailable
from app.queue import embedded
from app.queue.celery import CeleryQueue
from app.queue.embedded import EmbeddedBroker, find_server
from app.settings import Settings
from tests.waiting import is_alive, wait_until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def broker(settings: Settings):
    broker = EmbeddedBroker(settings)
    broker.start()
    yield broker
    broker.stop()


def client(broker: EmbeddedBroker) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(broker.socket), decode_responses=True)


def test_only_its_owner_can_reach_it(broker: EmbeddedBroker):
    assert broker.socket.stat().st_mode & 0o777 == 0o700
    assert broker.socket.parent.stat().st_mode & 0o777 == 0o700
    with client(broker) as connection:
        assert connection.config_get("port") == {"port": "0"}
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert connection.config_get("appendonly") == {"appendonly": "yes"}
        assert connection.config_get("save") == {"save": ""}


def test_celery_sends_through_it(settings: Settings, broker: EmbeddedBroker):
    queue = CeleryQueue(settings)
    queue.check()
    queue.send("job-1")
    with client(broker) as connection:
        assert connection.llen("attune:train") == 1


def test_what_it_took_survives_a_kill(settings: Settings, broker: EmbeddedBroker):
    with client(broker) as connection:
        connection.rpush("hints", *range(500))
        connection.config_set("appendfsync", "always")
        connection.rpush("hints", "last")
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: broker.pid is None)
    broker.stop()
    again = EmbeddedBroker(settings)
    again.start()
    try:
        with client(again) as connection:
            assert connection.llen("hints") == 501
    finally:
        again.stop()


def test_a_second_one_is_refused(settings: Settings, broker: EmbeddedBroker, monkeypatch):
    monkeypatch.setattr(embedded, "LOCK_WAIT_S", 0.2)
    with pytest.raises(Conflict, match="another broker runs on this home"):
        EmbeddedBroker(settings).start()
    assert broker.is_ready()


def test_the_lock_holds_while_the_server_lives(settings: Settings, monkeypatch):
    monkeypatch.setattr(embedded, "LOCK_WAIT_S", 0.2)
    first = EmbeddedBroker(settings)
    first.start()
    first.release()  # as if its supervisor had died
    with pytest.raises(Conflict):
        EmbeddedBroker(settings).start()
    first.stop()
    second = EmbeddedBroker(settings)
    second.start()
    second.stop()


def test_stop_leaves_neither_process_nor_socket(settings: Settings):
    broker = EmbeddedBroker(settings)
    broker.start()
    pid = broker.pid
    assert pid is not None
    broker.stop()
    assert not is_alive(pid)
    assert not broker.socket.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_it_dies_with_whoever_started_it(settings: Settings):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom app.settings import Settings\n"
        "from app.queue.embedded import EmbeddedBroker\n"
        f"broker = EmbeddedBroker(Settings(home=Path({str(settings.home)!r})))\n"
        "broker.start()\nsys.stdout.write(f'{broker.pid}\\n')\nsys.stdout.flush()\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert is_alive(pid)
        starter.kill()
    wait_until(lambda: not is_alive(pid))


def test_a_home_too_deep_for_a_socket_gets_a_short_private_one(tmp_path: Path):
    home = tmp_path / ("deep" * 20) / "home"
    settings = Settings(home=home)
    broker = EmbeddedBroker(settings)
    assert len(os.fsencode(broker.socket)) <= 100
    broker.start()
    try:
        assert broker.is_ready()
        assert broker.socket.parent.stat().st_mode & 0o777 == 0o700
        CeleryQueue(settings).check()
    finally:
        broker.stop()
        broker.socket.parent.rmdir()


def test_a_socket_folder_open_to_others_is_refused(settings: Settings):
    run = settings.home / "run"
    run.mkdir(parents=True)
    run.chmod(0o777)
    with pytest.raises(Unavailable, match="0700"):
        EmbeddedBroker(settings).start()


def test_a_damaged_folder_is_said_and_can_be_put_aside(settings: Settings):
    broker = EmbeddedBroker(settings)
    broker.start()
    broker.stop()
    (manifest,) = (settings.home / "broker").glob("appendonlydir/*.manifest")
    manifest.write_text("nonsense")
    with pytest.raises(Unavailable, match=r"broker\.log"):
        broker.start()
    aside = broker.set_aside()
    assert any(aside.iterdir())
    broker.start()
    broker.stop()


def fake_server(folder: Path, name: str, version: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 malloc=libc bits=64'\n")
    path.chmod(0o755)
    return path


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ours = fake_server(tmp_path, "redis-server", "7.2.4")
    assert find_server() == ours


def test_one_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_server(tmp_path, "redis-server", "6.0.16")
    assert find_server().parent != tmp_path


def test_no_server_at_all_says_what_to_do(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "_bundled_server", lambda: None)
    with pytest.raises(Unavailable, match="ATTUNE_BROKER_URL"):
        find_server()
