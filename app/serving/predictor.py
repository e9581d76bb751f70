"""What can answer predictions: the contract, and the references that it takes. Torch-free."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.kit.clock import monotonic

REFS_S = 2.0
REFS = 4096


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A finished model as its row describes it: enough to find it, to check it and to load it."""

    model_id: str
    folder: Path
    manifest_sha256: str
    task: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer for each input, in their order, the tokens that all of them had, and whose task it is."""

    answers: list[Any]
    tokens: int
    task: str


class RefCache:
    """Refs read from the database in the last seconds, by (tenant, model id). Threads may share it.

    A model deleted through this process is forgotten at once, through another one within `REFS_S`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], tuple[float, ModelRef]] = OrderedDict()
        self.generation = 0

    def get(self, tenant_id: str, model_id: str) -> ModelRef | None:
        """Return a ref that is fresh enough."""
        entry = self._known.get((tenant_id, model_id))
        return entry[1] if entry is not None and entry[0] > monotonic() else None

    def put(self, tenant_id: str, ref: ModelRef, generation: int) -> None:
        """Keep a ref, unless something was forgotten since `generation`: it may be what is gone."""
        with self._lock:
            if generation != self.generation:
                return
            self._known[tenant_id, ref.model_id] = (monotonic() + REFS_S, ref)
            self._known.move_to_end((tenant_id, ref.model_id))
            while len(self._known) > REFS:
                self._known.popitem(last=False)

    def forget(self, model_id: str) -> None:
        """Drop every ref to a model."""
        with self._lock:
            self.generation += 1
            for key in [key for key in self._known if key[1] == model_id]:
                del self._known[key]


class Predictor(Protocol):
    """Answers predictions. All but `evict` belong to the event loop that called `predict` first."""

    refs: RefCache

    async def predict(
        self, ref: ModelRef, inputs: list[Any], parameters: dict[str, Any], task: str | None = None
    ) -> Prediction:
        """Answer each input; `task` names what is asked of a model that does several.

        Raises:
            InvalidRequest: an input (`inputs.<index>`), a parameter (`parameters.<name>`) or the task is
                wrong.
            CorruptFolder: the stored model is not what was recorded.
            Overloaded: too many inputs are waiting.
            Unavailable: the server is shutting down.
        """
        ...

    def stream(
        self, ref: ModelRef, inputs: list[Any], parameters: dict[str, Any], task: str | None = None
    ) -> AsyncGenerator[str | Prediction, None]:
        """Yield an empty piece once everything is checked, then pieces of text, then the whole answer.

        Raises:
            InvalidRequest: as `predict`; with param `stream` where there is no one text to be written.
            CorruptFolder: as `predict`.
        """
        ...

    def evict(self, model_id: str) -> None:
        """Forget a model, now or after its last answer. May be called from any thread."""
        ...

    def loaded(self) -> list[str]:
        """Return the ids of the models in memory, the longest unused first."""
        ...

    async def close(self) -> None:
        """Stop; requests still waiting fail with `Unavailable`."""
        ...
