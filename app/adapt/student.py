"""The student contract: an architecture to train that is made for the job, rather than named.

A student writes a model folder like any other (config, weights, tokenizer), so all that follows loads it
as it loads a base model. `fine_tune` trains one from scratch, `distill` from a teacher.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from app.kit.registry import Plugin


@dataclass(frozen=True)
class Material:
    """What a student is made of.

    `texts` are the training rows' texts, in order and once only; `teacher` is the folder of the model that
    teaches it, None where none does; `models` are the folders of the models that it names.
    """

    texts: Iterable[str]
    seed: int
    teacher: Path | None = None
    models: Mapping[str, Path] = field(default_factory=dict)


class Student(Plugin, ABC):
    """A kind of student. Subclass it in one file under `students/`; torch only inside `make`."""

    needs_teacher: ClassVar[bool] = False  # it is made of its teacher's weights
    is_fresh: ClassVar[bool] = False  # its weights are random, so it trains for longer
    full_rate: ClassVar[float | None] = None  # at which all of it is tuned; None: by its size
    # The loss of answers that it learns from a teacher by, where the task's is kl_divergence; None: that.
    distance: ClassVar[str | None] = None

    def source(self) -> str | None:
        """Return the id of the model that this is, None where `make` makes it."""
        return None

    def model_ids(self) -> dict[str, str]:
        """Return the ids of the models that `make` reads, by the field that names them; default: none."""
        return {}

    def num_parameters(self) -> tuple[int, int] | None:
        """Return about how many weights it will have, and how many of them embed, where its fields tell."""
        return None

    @abstractmethod
    def make(self, folder: Path, material: Material) -> None:
        """Write `config.json`, `model.safetensors` and a tokenizer into an empty folder.

        The same material gives the same bytes, in whatever process: a resumed run makes it again.

        Raises:
            InvalidSpec: it cannot be made of this; `param` is the field, without what leads to the student.
        """
