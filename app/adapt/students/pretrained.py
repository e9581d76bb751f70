"""A student that starts from a pretrained model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from app.adapt.student import Material, Student


class Pretrained(Student):
    """Take another pretrained model as it is, body and tokenizer."""

    kind: Literal["pretrained"] = "pretrained"
    model: str = Field(min_length=1, max_length=255, description="A base model or a finished one.")

    def source(self) -> str:
        """Return the model's id."""
        return self.model

    def make(self, folder: Path, material: Material) -> None:
        """Never called: the model is there."""
        raise NotImplementedError
