"""What every command is given: the global options, the output, and a client on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import typer

from app.cli.output import Output

if TYPE_CHECKING:
    from app.cli.client import Client

FLAGS = {"--json", "-q", "--quiet"}
VALUED = {"--url", "--key"}


@dataclass
class Context:
    """One call of `attune`."""

    url: str | None = None
    key: str | None = None
    out: Output = field(default_factory=Output)

    @cached_property
    def client(self) -> Client:
        """The server, connected to on the first request."""
        from app.cli.client import Client
        from app.cli.credentials import resolve

        return Client(resolve(self.url, self.key))


def of(context: typer.Context) -> Context:
    """Return ours from typer's."""
    found = context.find_object(Context)
    if found is None:
        message = "the root callback did not run"
        raise AssertionError(message)
    return found


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the global options to the front: they work before and after the command's name."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in FLAGS or word.startswith(tuple(f"{name}=" for name in VALUED)):
            front.append(word)
        elif word in VALUED:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return front + rest
