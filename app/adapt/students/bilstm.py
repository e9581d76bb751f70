"""A BiLSTM: the student of Tang et al. 2019, chosen for its speed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from app.adapt.recurrent import Recurrent
from app.adapt.student import Material


class BiLstm(Recurrent):
    """Long short-term memory in both directions. Source: Hochreiter & Schmidhuber 1997."""

    cell: ClassVar[Literal["lstm", "gru"]] = "lstm"
    kind: Literal["bilstm"] = "bilstm"

    def make(self, folder: Path, material: Material) -> None:
        """Write the folder."""
        from app.adapt.layers.recurrent_student import make_recurrent

        make_recurrent(self, folder, material)
