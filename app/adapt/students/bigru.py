"""A BiGRU: three quarters of a BiLSTM's weights at the same width; a student of TextBrewer's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from app.adapt.recurrent import Recurrent
from app.adapt.student import Material


class BiGru(Recurrent):
    """Gated recurrent units in both directions. Source: Cho et al. 2014 (arXiv 1406.1078)."""

    cell: ClassVar[Literal["lstm", "gru"]] = "gru"
    kind: Literal["bigru"] = "bigru"

    def make(self, folder: Path, material: Material) -> None:
        """Write the folder."""
        from app.adapt.layers.recurrent_student import make_recurrent

        make_recurrent(self, folder, material)
