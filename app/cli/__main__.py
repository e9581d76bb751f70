"""`attune`: the commands by noun, the global options, and how every command ends.

Importing this costs typer and nothing else: a command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.cli import asking, check, files, jobs, keys, models, predict, quickstart, serve, up
from app.cli.context import Context, hoist, of
from app.cli.exits import Code, Failure, of_error
from app.cli.output import Output

EPILOG = (
    "Options --url, --key, --json and -q work before and after a command's name. "
    "Exit codes: 0 ok, 1 error or failed job, 2 usage, 3 data invalid, 4 authentication, "
    "5 not found, 6 conflict or limit, 7 server unreachable, 124 timed out, 130 interrupted."
)

app = typer.Typer(
    name="attune",
    help="Adapt language models: send data, watch the job, call the model.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# The Context of the call in progress; `main` needs it to report what a command raised.
_calls: list[Context] = []


@app.callback()
def attune(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="Server; or ATTUNE_URL.")] = None,
    key: Annotated[
        str | None, typer.Option(help="API key; or ATTUNE_API_KEY, which no ps shows.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Ids only, no talk.")] = False,
) -> None:
    """Take the global options."""
    context.obj = Context(url, key, Output(is_json=as_json, is_quiet=quiet))
    _calls.append(context.obj)


def version(context: typer.Context) -> None:
    """Print the version."""
    from app import __version__

    out = of(context).out
    if out.is_json:
        out.json({"version": __version__})
    else:
        out.line(f"attune {__version__}")


for command, panel in (
    (quickstart.quickstart, "Start here"),
    (up.up, "Start here"),
    (up.down, "Start here"),
    (check.check, "Adapt"),
    (asking.evaluate, "Adapt"),
    (predict.predict, "Adapt"),
    (asking.batch_predict, "Adapt"),
    (serve.serve, "Run"),
    (serve.worker, "Run"),
    (serve.migrate, "Run"),
    (version, "Run"),
):
    app.command(rich_help_panel=panel)(command)
for group, name, panel in (
    (files.app, "files", "Adapt"),
    (jobs.app, "jobs", "Adapt"),
    (models.app, "models", "Adapt"),
    (keys.app, "keys", "Run"),
):
    app.add_typer(group, name=name, rich_help_panel=panel)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; nothing ends in a traceback."""
    from app.errors import AttuneError

    _calls.clear()
    try:
        app(hoist(arguments), prog_name="attune")
    except SystemExit as end:  # how typer ends, having shown what is wrong with the usage
        return end.code if isinstance(end.code, int) else Code.OK
    except Failure as failure:
        return _report(failure)
    except AttuneError as error:
        return _report(of_error(error))
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    return Code.OK


def main() -> None:
    """Be the `attune` program."""
    sys.exit(run(sys.argv[1:]))


def _report(failure: Failure) -> int:
    out = _calls[-1].out if _calls else Output()
    out.failure(failure)
    return failure.code


if __name__ == "__main__":
    main()
