"""Plug-in discovery: a package of plug-ins becomes a registry and a discriminated union.

A plug-in is a frozen pydantic class with `kind: Literal["..."]`. Whoever drops a module (or a folder with
a `config` module) into a plug-in package has added a kind; nothing else is edited.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, Self, TypeVar, get_args

from pydantic import Discriminator, Tag

from app.kit.schema import Frozen


class Plugin(Frozen):
    """Base of every plug-in. Concrete ones declare `kind: Literal["name"] = "name"`."""

    @classmethod
    def name(cls) -> str:
        """Return the one value of `kind`."""
        (value,) = get_args(cls.model_fields["kind"].annotation)
        return str(value)


P = TypeVar("P", bound=Plugin)


class Registry(Generic[P]):
    """The plug-ins of one package, by kind; complete after `discover`."""

    def __init__(self, base: type[P], package: str) -> None:
        self.base = base
        self.package = package
        self._kinds: dict[str, type[P]] = {}

    @classmethod
    def discover(cls, base: type[P], package: str) -> Self:
        """Import every module of `package` and collect the concrete subclasses of `base` in it.

        Of a sub-package only its `config` module is imported, so that a task's torch half stays out.

        Raises:
            TypeError: a module without a plug-in, or two plug-ins of one kind.
        """
        registry = cls(base, package)
        for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if info.name.startswith("_"):
                continue
            name = f"{package}.{info.name}" + (".config" if info.ispkg else "")
            registry._collect(importlib.import_module(name))
        return registry

    def _collect(self, module: Any) -> None:
        found = [
            member
            for member in vars(module).values()
            if inspect.isclass(member)
            and issubclass(member, self.base)
            and member.__module__ == module.__name__
            and "kind" in member.model_fields
        ]
        if not found:
            message = f"{module.__name__} defines no {self.base.__name__} with a kind"
            raise TypeError(message)
        for plugin in found:
            if plugin.name() in self._kinds:
                message = f"{module.__name__}: kind {plugin.name()!r} exists already"
                raise TypeError(message)
            self._kinds[plugin.name()] = plugin

    def __iter__(self) -> Iterator[type[P]]:
        return iter(self._kinds.values())

    def __len__(self) -> int:
        return len(self._kinds)

    def __getitem__(self, kind: str) -> type[P]:
        return self._kinds[kind]

    @property
    def kinds(self) -> list[str]:
        """The registered kinds, sorted."""
        return sorted(self._kinds)

    def union(self, *further: type[Plugin]) -> Any:
        """Return a pydantic type for any of the plug-ins, and of `further`, told apart by `kind`."""
        plugins = {**self._kinds, **{plugin.name(): plugin for plugin in further}}
        members = [Annotated[plugin, Tag(name)] for name, plugin in plugins.items()]
        return Annotated[
            reduce(or_, members[1:], members[0]),
            Discriminator(
                _kind_of,
                custom_error_type="unknown_kind",
                custom_error_message=f"kind must be one of: {', '.join(sorted(plugins))}",
            ),
        ]


def _kind_of(value: Any) -> str | None:
    if isinstance(value, dict):
        return value.get("kind")
    return getattr(value, "kind", None)


def expand_kind(value: Any) -> Any:
    """Turn the short form `"full"` into `{"kind": "full"}`; for a `BeforeValidator` on a union field."""
    return {"kind": value} if isinstance(value, str) else value
