"""The torch half of predictions: a finished folder becomes a network that scores batches.

Imported on the first prediction, in a thread: nothing else of serving may import torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from transformers.utils import logging

from app.adapt.heads import load_heads
from app.adapt.outputs import Encoded
from app.adapt.plugins import AnyTask
from app.adapt.task import Example, Task
from app.adapt.tokenizers import Tokenizers
from app.errors import Conflict, InvalidRequest
from app.serving.predictor import ModelRef
from app.store.manifest import verify_folder

_TASK: TypeAdapter[Task] = TypeAdapter(AnyTask)
logging.disable_progress_bar()
if "OMP_NUM_THREADS" not in os.environ:
    # One core is left to the event loop and the tokenizer. OpenMP's threads wait for each other by
    # spinning, so a forward pass on every core is many times slower as soon as one core has other work.
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))


class LoadedModel:
    """A model in memory. `encode` belongs to one thread (tokenizers keep state), `answer` to another."""

    def __init__(
        self, task: Task, tokenizers: Tokenizers, network: nn.Module, max_length: int
    ) -> None:
        self.task = task
        self._tokenizers = tokenizers
        self._max_length = max_length
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.float().eval().to(self._device)
        self._torch_half = task.network()
        pad_id: Any = tokenizers.first.pad_token_id
        self._pad_id = int(pad_id) if pad_id is not None else 0
        tensors = [*self._network.parameters(), *self._network.buffers()]
        self.sizes = {t.data_ptr(): t.numel() * t.element_size() for t in tensors}

    def encode(self, examples: Sequence[Example], parameters: Any) -> list[Encoded]:
        """Tokenize, cut to the length that the model was trained with."""
        task = self.task.with_parameters(parameters)
        return self._tokenizers.encode(task, examples, self._max_length)

    @torch.inference_mode()
    def answer(
        self, encoded: list[Encoded], parameters: Any, emit: Callable[[str], None] | None = None
    ) -> list[Any]:
        """Return what `Task.decode` reads of each row: its scores, or what was generated for it.

        With `emit`, one row's text goes there piece by piece while it is written.
        """
        half = self._torch_half
        if self.task.generates:
            return half.generate(
                self.task, self._network, encoded, self._tokenizers.first, parameters, emit
            )
        batch = half.collate(self.task, encoded, self._pad_id).to(self._device)
        return list(half.scores(self.task, half.forward(self._network, batch), batch))


class LoadedTasks:
    """All that a model does: one task, whose name is empty, or several around one encoder, by name."""

    def __init__(self, tasks: dict[str, LoadedModel]) -> None:
        self.tasks = tasks
        # What tasks share is counted once.
        sizes = {key: size for model in tasks.values() for key, size in model.sizes.items()}
        self.bytes = sum(sizes.values())

    def of(self, name: str | None) -> LoadedModel:
        """Return what does the task that a request names; one that is alone needs no name.

        Raises:
            InvalidRequest: with param `task`.
        """
        if name is None and len(self.tasks) == 1:
            return next(iter(self.tasks.values()))
        known = {**self.tasks, **{m.task.name(): m for key, m in self.tasks.items() if not key}}
        if name in known:
            return known[str(name)]
        does = ", ".join(sorted(known))
        what = "say which one" if name is None else f"it does not do {name!r}"
        message = f"task: this model does {does}; {what}"
        raise InvalidRequest(message, param="task")


def load_model(ref: ModelRef) -> LoadedModel:
    """Load a model that does one task; see `load_tasks`."""
    return load_tasks(ref).of(None)


def load_tasks(ref: ModelRef) -> LoadedTasks:
    """Check every byte of the folder against its row, then load it.

    Raises:
        CorruptFolder: missing, cut off or changed files.
        Conflict: a task that this version does not know, or knows with other fields.
    """
    verify_folder(ref.folder, ref.manifest_sha256)
    facts: dict[str, Any] = json.loads((ref.folder / "attune.json").read_bytes())
    tokenizers = Tokenizers.load(ref.folder)
    try:
        if "tasks" in facts:
            heads = load_heads(ref.folder, facts)
            return LoadedTasks(
                {name: LoadedModel(head[0], tokenizers, *head[1:]) for name, head in heads.items()}
            )
        task = _TASK.validate_python(facts["task"])
    except ValidationError as error:
        message = f"model {ref.model_id} was made by a version of Attune that differs too much"
        raise Conflict(message, code="incompatible_model") from error
    network = task.network().load(task, ref.folder)
    return LoadedTasks({"": LoadedModel(task, tokenizers, network, int(facts["max_length"]))})
