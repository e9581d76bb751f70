"""The training loop. It knows networks, batches and steps; not files, jobs or the outside.

Step n of a run is a function of the weights before it and of (seed, n): the batch comes from the plan,
the rate from the schedule, dropout from a seed of its own. That is what makes a resumed run exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.adapt.layers.depth import select
from app.adapt.network import new_parameters
from app.adapt.outputs import Encoded
from app.errors import InvalidSpec, TrainingFailed
from app.jobs.state import Phase
from app.spec.fine_tune import FineTune
from app.store.manifest import CorruptFolder
from workers.protocol import CheckpointRef
from workers.training import checkpoint
from workers.training.anchor import Anchor
from workers.training.batches import BatchPlan
from workers.training.device import seed_step, used_memory_mb
from workers.training.evaluate import Evaluation, Stage, evaluate, units
from workers.training.optim import factor, make_optimizer, set_rates
from workers.training.report import Report
from workers.training.state import TrainState

MIN_BATCH_TOKENS = 64
NO_LIMIT = 2**40
MAX_POINTS = 1_000  # of each series: more than a chart shows, few enough to keep for every job


class Drained(Exception):
    """The run saved a checkpoint and stops, as asked."""


@dataclass(frozen=True)
class Setup:
    """What a loop runs on: a prepared network, encoded data, a resolved spec."""

    spec: FineTune
    stage: Stage
    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    folder: Path
    checkpoints: Sequence[CheckpointRef]


class Loop:
    """Trains the stage's network in place, from the newest intact checkpoint or from the start."""

    def __init__(self, setup: Setup, report: Report, should_drain: Callable[[], bool]) -> None:
        self.setup = setup
        self.report = report
        self.should_drain = should_drain
        spec = setup.spec
        self.runtime, self.optimization = spec.runtime, spec.optimization
        rate, decay = float(self.optimization.learning_rate), self.optimization.weight_decay
        self.network = setup.stage.network
        frozen = select(self.network, spec.method.freeze)
        self.frozen = [p for name, p in self.network.named_parameters() if name in frozen]
        self._keep_frozen()
        penalty = self.optimization.l2_sp
        self.anchor = penalty and Anchor(self.network, new_parameters(self.network), penalty)
        decay = 0.0 if penalty else decay
        groups = spec.method.parameter_groups(self.network, learning_rate=rate, weight_decay=decay)
        if not groups:
            message = "method.freeze leaves nothing to train"
            raise InvalidSpec(message, param="method.freeze", code="nothing_to_train")
        self.base_rates = [float(group["lr"]) for group in groups]
        self.optimizer = make_optimizer(groups, self.optimization)
        self.parameters = [p for group in groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(
            setup.stage.device.type, enabled=self.runtime.precision == "fp16"
        )
        self.state = TrainState(
            max_batch_tokens=int(self.optimization.max_batch_tokens),
            threads=torch.get_num_threads(),
        )
        self.best: tuple[Path, str] | None = None  # folder and digest of the best checkpoint

    def restore(self) -> int | None:
        """Go back to the newest intact checkpoint; return its step, None for the beginning."""
        candidates = self.setup.checkpoints
        found = checkpoint.restore(candidates, self.network, self.optimizer, self.report)
        if found is None:
            return None
        self.state, scaler = found
        torch.set_num_threads(self.state.threads)
        if scaler:
            self.scaler.load_state_dict(scaler)
        best = next((c for c in candidates if c.step == self.state.best_step), None)
        self.best = None if best is None else (best.folder, best.manifest_sha256)
        return self.state.step

    @property
    def spec(self) -> FineTune:
        """The resolved spec as it is carried out: a resumed run keeps its token budget.

        The budget was chosen from the memory that was free then; another one would cut batches
        elsewhere, and sums in another order have other last bits.
        """
        update = {"max_batch_tokens": self.state.max_batch_tokens}
        optimization = self.optimization.model_copy(update=update)
        return self.setup.spec.model_copy(update={"optimization": optimization})

    def run(self) -> TrainState:
        """Train to the end and leave the best weights in the network.

        Raises:
            Drained: asked to stop; a checkpoint has been saved.
            TrainingFailed: the loss is not finite, or not even one example fits into memory.
        """
        plan = self._plan()
        if self.state.step == 0 and not self.state.before:
            self.report.phase(Phase.EVALUATING)
            before = self._evaluate()
            self._update(before=before.metrics)
        self.report.phase(Phase.TRAINING)
        self.network.train()
        while self.state.step < plan.total_steps and not self.state.is_stopped:
            try:
                self._step(plan)
            except torch.cuda.OutOfMemoryError:
                plan = self._smaller_batches()
                continue
            self._after_step(plan)
        self._load_best()
        return self.state

    @property
    def _compares_rows(self) -> bool:
        return any(loss.needs_whole_batch for loss in self.setup.stage.losses)

    def _plan(self) -> BatchPlan:
        return BatchPlan(
            [len(item) for item in self.setup.train],
            batch_size=int(self.optimization.batch_size),
            max_tokens=NO_LIMIT if self._compares_rows else self.state.max_batch_tokens,
            epochs=int(self.optimization.epochs),
            max_steps=self.optimization.max_steps,
            seed=self.runtime.seed,
        )

    def _step(self, plan: BatchPlan) -> None:
        """One optimizer step: the gradient is that of the whole batch, however it is cut."""
        step, spec = self.state.step, self.optimization
        self.setup.spec.method.before_step(self.network, fraction=step / plan.total_steps)
        self._keep_frozen()
        seed_step(self.runtime.seed, step)
        rate = set_rates(self.optimizer, self.base_rates, factor(spec, step, plan.total_steps))
        parts = plan.micro_batches(step)
        rows = [[self.setup.train[index] for index in part] for part in parts]
        targets = sum(map(units, rows))
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.setup.stage.device)
        for items in rows:
            _, _, loss = self.setup.stage.run(items, fraction=step / plan.total_steps)
            loss = loss * (units(items) / max(1, targets))
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        if self.anchor is not None:
            self.anchor.add_gradients()
        limit = spec.gradient_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        # The one wait for the device in a step.
        loss_value, norm_value = torch.stack([total, norm]).tolist()
        # The scaler of fp16 skips steps whose gradient overflows; anywhere else that is the end.
        if not math.isfinite(loss_value if self.scaler.is_enabled() else norm_value):
            raise _not_finite(loss_value, step + 1, float(spec.learning_rate))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        tokens = sum(len(item) for items in rows for item in items)
        self._update(step=step + 1, trained_tokens=self.state.trained_tokens + tokens)
        self.report.trained(sum(map(len, rows)), tokens)
        values = {"loss": loss_value, "learning_rate": rate, "gradient_norm": norm_value}
        self._report_step(plan, values)

    def _report_step(self, plan: BatchPlan, values: dict[str, float]) -> None:
        """Send the step's values, of about `MAX_POINTS` evenly spaced steps of a long run."""
        step = self.state.step
        self.report.progress(step, plan.total_steps, step / plan.steps_per_epoch)
        if step % math.ceil(plan.total_steps / MAX_POINTS) and step != plan.total_steps:
            return
        values = {**values, **self.report.speed()}
        named = {f"train/{name}": value for name, value in values.items() if math.isfinite(value)}
        named["memory/mb"] = used_memory_mb(self.setup.stage.device)
        self.report.metrics(step, named)

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
        name, greater = self.setup.stage.task.primary_metric()
        if not {"loss", name} <= evaluation.metrics.keys():
            rate = float(self.optimization.learning_rate)
            raise _not_finite(math.nan, self.state.step, rate)
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
        result = evaluate(self.setup.stage, self.setup.validation, self.state.max_batch_tokens)
        self.report.metrics(
            self.state.step, {f"eval/{name}": value for name, value in result.metrics.items()}
        )
        self.report.pause()
        return result

    def _save(self, *, is_best: bool) -> None:
        event = checkpoint.save(
            self.setup.folder, self.network, self.optimizer, self.state,
            scaler=self.scaler.state_dict(), is_best=is_best,
        )  # fmt: skip
        self.report.emit(event)
        self.report.pause()
        if is_best:
            self.best = (event.folder, event.manifest_sha256)

    def _load_best(self) -> None:
        """Take the weights of the best evaluation; should they be gone, those of the last step."""
        best_step = self.state.best_step
        if best_step in {None, self.state.step}:
            return
        try:
            checkpoint.load_best(self.network, self.best)
        except CorruptFolder as error:
            self._update(best_step=self.state.step)
            self.report.log(
                f"The best weights, of step {best_step}, are lost; the last ones are kept: "
                f"{error.message}",
                "warning",
            )
        else:
            self.report.log(f"The best weights are those of step {best_step}")

    def _smaller_batches(self) -> BatchPlan:
        """Halve the micro-batches: the batch and its gradient stay what they are."""
        if self._compares_rows:
            message = (
                "the GPU's memory does not hold a batch, and its loss compares all rows of one"
            )
            raise TrainingFailed(message, code="out_of_memory", param="optimization.batch_size")
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

    def _keep_frozen(self) -> None:
        for parameter in self.frozen:
            parameter.requires_grad = False

    def _update(self, **values: Any) -> None:
        self.state = self.state.model_copy(update=values)


def _not_finite(loss: float, step: int, rate: float) -> TrainingFailed:
    what = "the gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
    return TrainingFailed(
        f"{what} at step {step}; try a lower optimization.learning_rate than {rate:g}",
        code="loss_not_finite",
        param="optimization.learning_rate",
        details={"step": step, "loss": str(loss)},
    )
