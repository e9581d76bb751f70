"""`attune serve`, `attune worker`, `attune migrate`: a deployment's processes, one at a time."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import Annotated

import typer

from app.cli.context import of
from app.cli.exits import Code, Failure
from app.kit.process import python

GRACE_S = 10  # for answers in flight when the server is told to stop
BACKLOG = 2048
Host = Annotated[str | None, typer.Option(help="Address to listen on; default: ATTUNE_HOST.")]


def serve(
    context: typer.Context,
    host: Host = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0: any free one.")] = None,
    predict: Annotated[bool, typer.Option(help="Answer predictions in this process.")] = True,
    fd: Annotated[
        int | None, typer.Option(hidden=True, help="A listening socket to take over.")
    ] = None,
) -> None:
    """Run the API alone; workers and broker run elsewhere."""
    import uvicorn

    from app.cli.local import load_settings

    of(context)
    if not predict:
        os.environ["ATTUNE_PREDICT"] = "false"
    settings = load_settings()
    listener = (
        socket.socket(fileno=fd)
        if fd is not None
        else listen(host or settings.host, settings.port if port is None else port)
    )
    # By name: the CLI is main's neighbour, not its user, and `attune --help` must not load it.
    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        log_config=None,
        access_log=False,  # the middleware logs, with the request's id
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        raise Failure("the API did not start; the log above says why")


def worker(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 0 if a worker of this host lives.")
    ] = False,
    name: Annotated[str, typer.Option(help="Shown in logs and in the runs of jobs.")] = "worker",
) -> None:
    """Run one worker: it takes jobs from the queue and trains one at a time."""
    of(context)
    command = python("workers", "--name", name, *(["--check"] if check else []))
    # Replaced, not wrapped: signals reach the worker itself, as systemd and Docker send them.
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def migrate(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 when there is something to do.")
    ] = False,
) -> None:
    """Bring the database to the newest schema."""
    of(context)
    done = subprocess.run(python("migrations", *(["--check"] if check else [])), check=False)
    raise typer.Exit(done.returncode)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes any free one.

    Raises:
        Failure: the port is taken, or the address is not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Failure(f"cannot listen on {host}: {error.strerror or error}", Code.USAGE) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        hint = "name another with --port, or take a free one with --port 0"
        raise Failure(message, Code.CONFLICT, hint=hint) from None
    listener.set_inheritable(True)
    return listener
