"""The student contract: where a distilled model's architecture and first weights come from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from app.kit.registry import Plugin


class Student(Plugin, ABC):
    """A kind of student. Subclass it in one file under `students/`."""

    @abstractmethod
    def source(self) -> str | None:
        """Return the id of the model it starts from, or None when its weights are made fresh."""
