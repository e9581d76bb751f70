"""`attune up` and `attune down`: everything on this machine, in a terminal or in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.context import Context, of
from app.cli.exits import Code, Failure
from app.cli.serve import Host
from app.kit.clock import monotonic
from app.kit.process import python

if TYPE_CHECKING:
    from app.cli.stack import Started
    from app.settings import Settings

Home = Annotated[Path | None, typer.Option(help="Folder for all state; default: ATTUNE_HOME.")]
DETACH_S = 120.0


def up(
    context: typer.Context,
    host: Host = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: ATTUNE_PORT; 0: any free one.")
    ] = None,
    home: Home = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Go on in the background.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the children's logs.")
    ] = False,
) -> None:
    """Start broker, worker and API on this machine. Ctrl-C drains and stops them."""
    from app.cli.stack import Stack, prepare_home

    here = of(context)
    settings = prepare_home(home)
    host, port = host or settings.host, settings.port if port is None else port
    if detach:
        _detach(here, settings, host, port)
        return
    stopped = threading.Event()
    stack = Stack(settings, host, port, say=lambda text: here.out.say(f"- {text}", style="yellow"))

    def stop(*_: object) -> None:
        if stopped.is_set():
            stack.hurry.set()
        else:
            here.out.say("\nstopping; running jobs are saved and go on next time (again to hurry)")
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    if verbose:
        from app.cli.tail import follow

        follow(stack.logs, here.out)
    here.out.say(f"starting in {settings.home} ...", style="dim")
    stack.run(stopped, lambda started: _announce(here, settings, started))


def down(context: typer.Context, home: Home = None) -> None:
    """Stop what `attune up` started on a home, and wait until it is gone."""
    from app.cli.instance import Instance
    from app.cli.stack import prepare_home

    here = of(context)
    settings = prepare_home(home)
    instance = Instance(settings.home)
    running = instance.running()
    if running is None:
        here.out.say(f"nothing is up on {settings.home}")
        return
    if running.pid <= 0:
        raise Failure(f"something holds {settings.home}, but does not say which process it is")
    os.kill(running.pid, signal.SIGTERM)
    here.out.say(f"stopping process {running.pid} ...", style="dim")
    deadline = monotonic() + settings.drain_timeout_s + 60
    while instance.running() is not None:
        if monotonic() > deadline:
            raise Failure(f"process {running.pid} is still draining", Code.TIMEOUT)
        threading.Event().wait(0.1)
    here.out.say("stopped")


def _announce(here: Context, settings: Settings, started: Started) -> None:
    url, key = started.credentials.url, started.credentials.key
    if here.out.is_json:
        here.out.json({"url": url, "home": str(settings.home), "ready": True}, is_line=True)
        return
    say = here.out.say
    say("")
    say(f"  Attune is up at {url}", style="bold green")
    say(f"  docs       {url}/docs")
    say(f"  state      {settings.home}   (logs in {settings.home / 'logs'})")
    say(f"  key        {settings.home / 'credentials.json'}; the attune commands find it there")
    if started.is_new_key:
        say("  new key, shown this once:", style="bold")
        here.out.line(str(key))
    say(f'  try        curl -H "Authorization: Bearer $ATTUNE_API_KEY" {url}/v1/me')
    say("  Ctrl-C drains and stops it" if sys.stdin.isatty() else "  `attune down` stops it")
    say("")


def _detach(here: Context, settings: Settings, host: str, port: int) -> None:
    from app.cli.credentials import load
    from app.cli.instance import Instance
    from app.cli.stack import Started, prepare_key
    from app.cli.supervisor import tail

    is_new = prepare_key(settings)  # here, so that a new key never lies in a log
    log = settings.home / "logs" / "up.log"
    log.parent.mkdir(exist_ok=True, mode=0o700)
    with log.open("ab") as output:
        process = subprocess.Popen(
            python("app.cli", "up", "--host", host, "--port", str(port)),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    instance = Instance(settings.home)
    deadline = monotonic() + DETACH_S
    while not ((running := instance.running()) and running.is_ready and running.pid == process.pid):
        if process.poll() is not None or monotonic() > deadline:
            process.terminate()
            raise Failure(f"attune did not come up; the end of {log}:\n{tail(log)}")
        threading.Event().wait(0.1)
    credentials = load(settings.home)
    if credentials is not None:
        _announce(here, settings, Started(credentials, is_new))
