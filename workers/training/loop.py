"""The training loop. It knows networks, batches and steps; not files, jobs or the outside.

Step n of a run is a function of the weights before it and of (seed, n): the batch comes from the plan, the
rate from the schedule, dropout from a seed of its own. That is what makes a resumed run exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.adapt.loss import Loss
from app.adapt.outputs import Encoded
from app.adapt.task import Task
from app.errors import TrainingFailed
from app.jobs.state import Phase
from app.spec.fine_tune import FineTune
from workers.protocol import CheckpointRef
from workers.training import checkpoint
from workers.training.batches import BatchPlan
from workers.training.device import autocast, seed_step, used_memory_mb
from workers.training.evaluate import Evaluation, evaluate
from workers.training.optim import factor, make_optimizer, set_rates
from workers.training.report import Report
from workers.training.state import TrainState

MIN_BATCH_TOKENS = 64


class Drained(Exception):
    """The run saved a checkpoint and stops, as asked."""


@dataclass(frozen=True)
class Setup:
    """What a loop runs on: a prepared network, encoded data, a resolved spec."""

    spec: FineTune
    task: Task
    network: nn.Module
    losses: Sequence[Loss]
    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    pad_id: int
    device: torch.device
    folder: Path
    checkpoints: Sequence[CheckpointRef]


class Loop:
    """Trains `setup.network` in place, from the newest intact checkpoint or from the start."""

    def __init__(self, setup: Setup, report: Report, should_drain: Callable[[], bool]) -> None:
        self.setup = setup
        self.report = report
        self.should_drain = should_drain
        spec = setup.spec
        self.runtime, self.optimization = spec.runtime, spec.optimization
        rate, decay = float(self.optimization.learning_rate), self.optimization.weight_decay
        groups = spec.method.parameter_groups(setup.network, learning_rate=rate, weight_decay=decay)
        self.base_rates = [float(group["lr"]) for group in groups]
        self.optimizer = make_optimizer(groups, self.optimization)
        self.parameters = [p for group in groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(
            setup.device.type, enabled=self.runtime.precision == "fp16"
        )
        self.state = TrainState(max_batch_tokens=int(self.optimization.max_batch_tokens))
        self.best_folder: Path | None = None

    def restore(self) -> int | None:
        """Go back to the newest intact checkpoint; return its step, None to start from the beginning."""
        found = checkpoint.restore(
            self.setup.checkpoints, self.setup.network, self.optimizer, self.report
        )
        if found is None:
            return None
        self.state, scaler = found
        if scaler:
            self.scaler.load_state_dict(scaler)
        best = next((c for c in self.setup.checkpoints if c.step == self.state.best_step), None)
        self.best_folder = None if best is None else best.folder
        return self.state.step

    def run(self) -> TrainState:
        """Train to the end and leave the best weights in the network.

        Raises:
            Drained: asked to stop; a checkpoint has been saved.
            TrainingFailed: the loss is not finite, or not even one example fits into memory.
        """
        plan = self._plan()
        if self.state.step == 0 and not self.state.before:
            before = self._evaluate()
            self._update(before=before.metrics)
        self.report.phase(Phase.TRAINING)
        self.setup.network.train()
        while self.state.step < plan.total_steps and not self.state.is_stopped:
            try:
                self._step(plan)
            except torch.cuda.OutOfMemoryError:
                plan = self._smaller_batches()
                continue
            self._after_step(plan)
        self._load_best()
        return self.state

    def _plan(self) -> BatchPlan:
        return BatchPlan(
            [len(item) for item in self.setup.train],
            batch_size=int(self.optimization.batch_size),
            max_tokens=self.state.max_batch_tokens,
            epochs=int(self.optimization.epochs),
            max_steps=self.optimization.max_steps,
            seed=self.runtime.seed,
        )

    def _step(self, plan: BatchPlan) -> None:
        """One optimizer step: the gradient is that of the whole batch, however it is cut."""
        step, spec = self.state.step, self.optimization
        self.setup.spec.method.before_step(self.setup.network, fraction=step / plan.total_steps)
        seed_step(self.runtime.seed, step)
        rate = set_rates(self.optimizer, self.base_rates, factor(spec, step, plan.total_steps))
        parts = plan.micro_batches(step)
        size = sum(len(part) for part in parts)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in parts:
            loss = self._loss([self.setup.train[index] for index in part]) * (len(part) / size)
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            message = (
                f"the loss is {total} at step {step + 1}; try a lower optimization.learning_rate "
                f"than {spec.learning_rate}"
            )
            raise TrainingFailed(message, code="loss_not_finite", details={"step": step + 1})
        self.scaler.unscale_(self.optimizer)
        limit = spec.gradient_clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        tokens = sum(len(self.setup.train[index]) for part in parts for index in part)
        self._update(step=step + 1, trained_tokens=self.state.trained_tokens + tokens)
        self.report.trained(size, tokens)
        self._report_step(plan, total, rate, norm)

    def _loss(self, items: Sequence[Encoded]) -> torch.Tensor:
        half, task = self.setup.task.network(), self.setup.task
        batch = half.collate(task, items, self.setup.pad_id).to(self.setup.device)
        with autocast(self.setup.device, self.runtime.precision):
            outputs = half.forward(self.setup.network, batch)
            terms = [loss.weight * loss.compute(outputs, batch, None) for loss in self.setup.losses]
        return torch.stack(terms).sum()

    def _report_step(self, plan: BatchPlan, loss: float, rate: float, norm: float) -> None:
        values = {
            "train/loss": loss,
            "train/learning_rate": rate,
            "train/gradient_norm": norm,
            "memory/mb": used_memory_mb(self.setup.device),
        }
        values |= {f"train/{name}": value for name, value in self.report.speed().items()}
        step = self.state.step
        self.report.metrics(step, {k: v for k, v in values.items() if math.isfinite(v)})
        self.report.progress(step, plan.total_steps, step / plan.steps_per_epoch)

    def _after_step(self, plan: BatchPlan) -> None:
        step, is_last = self.state.step, self.state.step >= plan.total_steps
        is_best = False
        if is_last or step % int(self.runtime.evaluate_every) == 0:
            is_best = self._judge(self._evaluate())
            self.report.progress(step, plan.total_steps, step / plan.steps_per_epoch, force=True)
        drains = self.should_drain()
        is_due = is_last or self.state.is_stopped or step % int(self.runtime.checkpoint_every) == 0
        if is_best or is_due or drains:
            self._save(is_best=is_best)
        if drains and not is_last and not self.state.is_stopped:
            raise Drained

    def _judge(self, evaluation: Evaluation) -> bool:
        """Note an evaluation; say whether it is the best, and stop early when gains stay away."""
        name, greater = self.setup.task.primary_metric()
        value = evaluation.metrics[name] if greater else -evaluation.metrics[name]
        best, early = self.state.best_value, self.optimization.early_stopping
        is_best = best is None or value > best
        gained = best is None or value > best + (early.min_delta if early else 0.0)
        waited = 0 if gained else self.state.evaluations_without_gain + 1
        self._update(
            metrics=evaluation.metrics,
            best_value=value if is_best else best,
            best_step=self.state.step if is_best else self.state.best_step,
            evaluations_without_gain=waited,
            is_stopped=early is not None and waited >= early.patience,
        )
        if self.state.is_stopped:
            self.report.log(f"Stopped early: {name} has not improved for {waited} evaluations")
        return is_best

    def _evaluate(self) -> Evaluation:
        result = evaluate(
            self.setup.task, self.setup.network, self.setup.validation, self.setup.losses,
            pad_id=self.setup.pad_id, device=self.setup.device,
            precision=self.runtime.precision, max_tokens=self.state.max_batch_tokens,
        )  # fmt: skip
        self.report.metrics(
            self.state.step, {f"eval/{name}": value for name, value in result.metrics.items()}
        )
        self.report.pause()
        return result

    def _save(self, *, is_best: bool) -> None:
        event = checkpoint.save(
            self.setup.folder, self.setup.network, self.optimizer, self.state,
            scaler=self.scaler.state_dict(), is_best=is_best,
        )  # fmt: skip
        self.report.emit(event)
        self.report.pause()
        if is_best:
            self.best_folder = event.folder

    def _load_best(self) -> None:
        if self.state.best_step == self.state.step:
            return
        if self.best_folder is None:
            message = f"The best checkpoint (step {self.state.best_step}) is lost; the last is used"
            self.report.log(message, "warning")
            return
        checkpoint.load_network(self.setup.network, self.best_folder)
        self.report.log(f"The best weights are those of step {self.state.best_step}")

    def _smaller_batches(self) -> BatchPlan:
        """Halve the micro-batches: the batch and its gradient stay what they are."""
        tokens = self.state.max_batch_tokens // 2
        if tokens < MIN_BATCH_TOKENS:
            message = "the GPU's memory does not hold a single example"
            raise TrainingFailed(message, code="out_of_memory", param="optimization.max_length")
        torch.cuda.empty_cache()
        self._update(max_batch_tokens=tokens)
        self.report.log(
            f"Out of GPU memory: {tokens} tokens go through the network at once from here on; "
            "the batch stays the same",
            "warning",
        )
        return self._plan()

    def _update(self, **values: Any) -> None:
        self.state = self.state.model_copy(update=values)
