"""A model that is asked and not trained: found, loaded, and put on its device; and its answers.

Jobs answer in full precision unless they say otherwise, as the predict route does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from app.adapt.answering import decode_answers
from app.adapt.heads import load_heads
from app.adapt.network import new_parameters
from app.adapt.outputs import Encoded
from app.adapt.task import Example, Task
from app.adapt.tokenizers import Tokenizers
from app.errors import InvalidRequest, InvalidSpec
from app.spec.answering import Answering
from workers.protocol import Assignment
from workers.recipes.objective import own_losses
from workers.recipes.sources import Loaded, facts_of, length_of, pad_id_of, task_of
from workers.training.batches import fit_tokens
from workers.training.device import autocast, is_out_of_memory
from workers.training.evaluate import Stage
from workers.training.loop import Drained
from workers.training.report import Report


@dataclass(frozen=True)
class Asked:
    """A loaded model with what answers are made by."""

    stage: Stage
    tokenizers: Tokenizers
    max_length: int
    max_tokens: int
    parameters: Any

    @torch.no_grad()
    def answers(self, examples: Sequence[Example]) -> tuple[list[Any], int]:
        """Return the answer to each example, as the predict route has it, and the tokens of all.

        Raises:
            InvalidRequest: an example that the model's tokenizer cannot take.
        """
        task = self.stage.task
        encoded = self.tokenizers.encode(
            task.with_parameters(self.parameters), examples, self.max_length
        )
        raw: dict[int, Any] = {}
        lengths = [len(item) for item in encoded]
        for part in fit_tokens(range(len(encoded)), lengths, self.max_tokens):
            raw |= dict(zip(part, self._said([encoded[at] for at in part]), strict=True))
        ordered = [raw[at] for at in range(len(encoded))]
        return decode_answers(task, ordered, encoded, self.parameters), sum(lengths)

    def _said(self, items: Sequence[Encoded]) -> list[Any]:
        """Return what `Task.decode` reads of each row; what does not fit the memory is halved."""
        stage, half = self.stage, self.stage.task.network()
        stage.beat()
        try:
            with autocast(stage.device, stage.precision):
                if stage.task.generates:
                    return half.generate(
                        stage.task, stage.network, items, stage.tokenizer, self.parameters
                    )
                batch = half.collate(stage.task, items, stage.pad_id).to(stage.device)
                outputs = half.forward(stage.network, batch)
            outputs = replace(outputs, logits=outputs.logits.float())
            return list(half.scores(stage.task, outputs, batch))
        except RuntimeError as error:
            if len(items) == 1 or not is_out_of_memory(error):
                raise
        middle = len(items) // 2
        return [*self._said(items[:middle]), *self._said(items[middle:])]


def known(assignment: Assignment, spec: Answering) -> Answering:
    """Return the spec with the task that its model does.

    Raises:
        InvalidSpec: as `Answering.knowing`.
    """
    task = task_of(assignment, spec.model, spec.head)
    return spec.knowing({} if task is None else {"model": task})


def own_task(spec: Answering, loaded: Loaded) -> Task:
    """Return the task of a known spec; of a base model, with what its head says.

    Raises:
        InvalidSpec: the head does something else.
    """
    task = spec.known_task
    is_base = loaded.source.kind not in {"finished", "checkpoint"}
    return task.as_base(loaded.source.config) if is_base else task


def load_asked(
    assignment: Assignment, spec: Answering, loaded: Loaded, task: Task, device: torch.device
) -> Asked:
    """Put the network of a fitted task on its device.

    Raises:
        InvalidSpec: the model has no head for the task.
    """
    network = _network(spec, loaded, task)
    drawn = new_parameters(network)
    if drawn:
        message = (
            f"model: {spec.model} has not learned {task.name()} ({min(drawn)} is missing); fine-tune it "
            "first, and name the finished model"
        )
        raise InvalidSpec(message, param="model", code="model_does_not_fit")
    config = cast("Any", network).config
    pad_id = pad_id_of(loaded.tokenizers.first)
    if config.pad_token_id is None:
        config.pad_token_id = pad_id
    length = length_of(assignment, spec.model, spec.head) or loaded.max_length
    stage = Stage(
        task=task,
        network=network.float().to(device).eval().requires_grad_(requires_grad=False),
        losses=own_losses(task),
        tokenizer=loaded.tokenizers.first,
        pad_id=pad_id,
        device=device,
        precision="fp32" if spec.runtime.precision == "auto" else spec.runtime.precision,
    )
    return Asked(
        stage, loaded.tokenizers, length, spec.batch_tokens(device.type),
        task.parameters.model_validate(task.default_parameters() | spec.parameters),
    )  # fmt: skip


def _network(spec: Answering, loaded: Loaded, task: Task) -> torch.nn.Module:
    folder = loaded.source.folder
    if spec.head is None:
        return task.network().load(task, folder)
    _, network, _ = load_heads(folder, facts_of(folder), [spec.head])[spec.head]
    return network


def beating(
    report: Report, should_drain: Callable[[], bool], save: Callable[[], None] = lambda: None
) -> Callable[[], None]:
    """Return what is called for each batch: it tells the watchdog, and stops when it is time.

    Raises:
        Drained: asked to stop; what `save` saves is saved.
    """

    def beat() -> None:
        report.alive()
        if should_drain():
            save()
            raise Drained

    return beat


def resolved(spec: Answering, asked: Asked, **fields: Any) -> dict[str, Any]:
    """Return the spec as it is run, with no "auto" left."""
    stage = asked.stage
    runtime = spec.runtime.model_copy(
        update={"device": stage.device.type, "precision": stage.precision}
    )
    update = {"task": stage.task, "runtime": runtime, "max_batch_tokens": asked.max_tokens}
    return spec.model_copy(update=update | fields).model_dump(mode="json")


def answers_or_errors(asked: Asked, examples: Sequence[Example]) -> tuple[list[Any], int]:
    """Return the answer to each example, or the error where this one cannot be asked; and the tokens."""
    try:
        return asked.answers(examples) if examples else ([], 0)
    except InvalidSpec:
        raise
    except InvalidRequest as error:
        if len(examples) == 1:
            return [error], 0
    pairs = [answers_or_errors(asked, [example]) for example in examples]
    return [found for answers, _ in pairs for found in answers], sum(count for _, count in pairs)
