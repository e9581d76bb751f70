"""The training loop. It knows networks, batches and steps; not files, jobs or the outside.

Step n of a run is a function of the weights before it and of (seed, n): the batch comes from the plan,
the rate from the schedule, dropout from a seed of its own. That is what makes a resumed run exact.

A job with several seeds is one loop for each, one after the other; what they share is the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from app.adapt.layers.depth import select
from app.adapt.layers.packing import keeps_apart
from app.adapt.loss import internals
from app.adapt.method import Method
from app.adapt.network import new_parameters
from app.adapt.outputs import Encoded
from app.errors import InvalidSpec, TrainingFailed
from app.jobs.state import Phase
from app.spec.training import Stepwise
from app.store.manifest import CorruptFolder
from workers.protocol import CheckpointRef
from workers.training import checkpoint
from workers.training.anchor import Anchor
from workers.training.batches import BatchPlan
from workers.training.device import is_out_of_memory, seed_step, used_memory_mb
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
    """What a loop runs on: a prepared network, encoded data, a resolved spec.

    Checkpoints go to `folder`; without one there are none.
    """

    spec: Stepwise
    stage: Stage
    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    folder: Path | None = None
    checkpoints: Sequence[CheckpointRef] = ()


class Loop:
    """Trains the stage's network in place, from the newest intact checkpoint or from the start."""

    plan_type: ClassVar[type[BatchPlan]] = BatchPlan  # where benchmarks try other batches

    def __init__(self, setup: Setup, report: Report, should_drain: Callable[[], bool]) -> None:
        self.setup = setup
        self.report = report
        self.should_drain = should_drain
        spec = setup.spec
        self.runtime, self.optimization = spec.runtime, spec.optimization
        rate, decay = float(self.optimization.learning_rate), self.optimization.weight_decay
        self.network = setup.stage.network
        self.method = spec.chosen_method
        frozen = select(self.network, self.method.freeze)
        self.frozen = [p for name, p in self.network.named_parameters() if name in frozen]
        self._keep_frozen()
        penalty = self.optimization.l2_sp
        self.anchor = penalty and Anchor(self.network, new_parameters(self.network), penalty)
        decay = 0.0 if penalty else decay
        groups = self.method.parameter_groups(self.network, learning_rate=rate, weight_decay=decay)
        if not groups:
            message = "method.freeze leaves nothing to train"
            raise InvalidSpec(message, param="method.freeze", code="nothing_to_train")
        learned = list(setup.stage.learned.parameters())
        if learned:
            groups.append({"params": learned, "lr": rate, "weight_decay": 0.0})
        self.base_rates = [float(group["lr"]) for group in groups]
        self.optimizer = make_optimizer(groups, self.optimization)
        self.parameters = [p for group in groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(
            setup.stage.device.type, enabled=self.runtime.precision == "fp16"
        )
        self.state = TrainState(
            max_batch_tokens=int(self.optimization.max_batch_tokens),
            packs=self._can_pack(),
            threads=torch.get_num_threads(),
        )
        self.best: tuple[Path, str] | None = None  # folder and digest of the best checkpoint

    def restore(self) -> int | None:
        """Go back to the newest intact checkpoint; return its step, None for the beginning."""
        candidates = self.setup.checkpoints
        found = checkpoint.restore(candidates, self._trained, self.report)
        if found is None:
            return None
        self.state, scaler = found
        torch.set_num_threads(self.state.threads)
        if scaler:
            self.scaler.load_state_dict(scaler)
        best = self.state.best
        kept = next((c for c in candidates if best is not None and c.step == best[1]), None)
        self.best = None if kept is None else (kept.folder, kept.manifest_sha256)
        return self.state.total_steps

    def note_trials(self, method: Method, trials: list[dict[str, Any]]) -> None:
        """Keep with the checkpoints which method was chosen, and why."""
        self._update(method=method.model_dump(mode="json"), trials=trials)

    def follow(self, loop: Loop) -> None:
        """Begin where the loop of the seed before ended."""
        self.best = loop.best
        self.state = loop.state.done(loop.seed).model_copy(
            update={"evaluations_without_gain": 0, "is_stopped": False}
        )

    @property
    def seed(self) -> int:
        """The seed that this loop trains with."""
        return self.runtime.seed + len(self.state.seeds)

    @property
    def is_last_seed(self) -> bool:
        """Whether no other seed comes after this one."""
        return len(self.state.seeds) + 1 >= int(self.runtime.seeds)

    @property
    def spec(self) -> Stepwise:
        """The resolved spec as it is carried out: a resumed run keeps its token budget and its packing.

        The budget was chosen from the memory that was free then; another one would cut batches
        elsewhere, and sums in another order have other last bits.
        """
        update = {
            "max_batch_tokens": self.state.max_batch_tokens,
            "packing": self.state.packs,
        }
        optimization = self.optimization.model_copy(update=update)
        return self.setup.spec.model_copy(update={"optimization": optimization})

    def run(self) -> TrainState:
        """Train to the end of this seed.

        Raises:
            Drained: asked to stop; a checkpoint has been saved.
            TrainingFailed: the loss is not finite, or not even one example fits into memory.
        """
        plan = self._plan()
        if self.state.total_steps == 0 and not self.state.before:
            self.report.phase(Phase.EVALUATING)
            before = self._evaluate()
            self._update(before=before.metrics)
        self.report.phase(Phase.TRAINING)
        self.network.train()
        while self.state.step < plan.total_steps and not self.state.is_stopped:
            try:
                self._step(plan)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                plan = self._smaller_batches()
                continue
            self._after_step(plan)
        return self.state

    @property
    def _trained(self) -> checkpoint.Trained:
        return checkpoint.Trained(self.network, self.setup.stage.learned, self.optimizer)

    @property
    def _compares_rows(self) -> bool:
        return any(loss.needs_whole_batch for loss in self.setup.stage.losses)

    def _can_pack(self) -> bool:
        """Say whether sequences share rows: as resolved, unless this network would mix them up."""
        if self.optimization.packing is not True or self._compares_rows:
            return False
        if internals(self.setup.stage.losses):
            self.report.log("Sequences are padded: a loss reads what goes on inside of each")
            return False
        if keeps_apart(self.network):
            return True
        self.report.log("Sequences are padded: this model would mix up those that share a row")
        return False

    def _plan(self) -> BatchPlan:
        lengths, max_tokens = [len(item) for item in self.setup.train], self.state.max_batch_tokens
        if self._compares_rows:
            # Batches of one length would never set a short text beside a long one of its label.
            lengths, max_tokens = [1] * len(lengths), NO_LIMIT
        return self.plan_type(
            lengths,
            batch_size=int(self.optimization.batch_size),
            max_tokens=max_tokens,
            epochs=int(self.optimization.epochs),
            max_steps=self.optimization.max_steps,
            seed=self.seed,
        )

    def _step(self, plan: BatchPlan) -> None:
        """One optimizer step: the gradient is that of the whole batch, however it is cut."""
        step, spec = self.state.step, self.optimization
        self.method.before_step(self.network, fraction=step / plan.total_steps)
        self._keep_frozen()
        seed_step(self.seed, step)
        rate = set_rates(self.optimizer, self.base_rates, factor(spec, step, plan.total_steps))
        parts = plan.micro_batches(step)
        rows = [[self.setup.train[index] for index in part] for part in parts]
        targets = sum(map(units, rows))
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.setup.stage.device)
        for items in rows:
            _, _, loss = self.setup.stage.run(
                items, fraction=step / plan.total_steps, packs=self.state.packs
            )
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
        self._report_progress(plan)
        total = plan.total_steps * int(self.runtime.seeds)
        if self.state.step % math.ceil(total / MAX_POINTS) and self.state.step != plan.total_steps:
            return
        values = {**values, **self.report.speed()}
        named = {f"train/{name}": value for name, value in values.items() if math.isfinite(value)}
        named["memory/mb"] = used_memory_mb(self.setup.stage.device)
        self.report.metrics(self.state.total_steps, named)

    def _report_progress(self, plan: BatchPlan, *, force: bool = False) -> None:
        to_come = int(self.runtime.seeds) - len(self.state.seeds)
        total = self.state.offset + plan.total_steps * to_come
        epoch = self.state.step / plan.steps_per_epoch
        self.report.progress(self.state.total_steps, total, epoch, force=force)

    def _after_step(self, plan: BatchPlan) -> None:
        step, is_last = self.state.step, self.state.step >= plan.total_steps
        is_best = False
        if is_last or step % int(self.runtime.evaluate_every) == 0:
            is_best = self._judge(self._evaluate())
            self._report_progress(plan, force=True)
        drains = self.should_drain()
        if self.setup.folder is None:
            if drains:
                raise Drained
            return
        is_due = is_last or self.state.is_stopped or step % int(self.runtime.checkpoint_every) == 0
        if is_best or is_due or drains:
            self._save(self.setup.folder, is_best=is_best)
        if drains and not (self.is_last_seed and (is_last or self.state.is_stopped)):
            raise Drained

    def _judge(self, evaluation: Evaluation) -> bool:
        """Note an evaluation; say whether it is the best, and stop early when gains stay away."""
        name, greater = self.setup.stage.task.primary_metric()
        if not {"loss", name} <= evaluation.metrics.keys():
            rate = float(self.optimization.learning_rate)
            raise _not_finite(math.nan, self.state.total_steps, rate)
        value = evaluation.metrics[name] if greater else -evaluation.metrics[name]
        best, early = self.state.best_value, self.optimization.early_stopping
        overall = self.state.best
        is_best = best is None or value > best
        gained = best is None or value > best + (early.min_delta if early else 0.0)
        waited = 0 if gained else self.state.evaluations_without_gain + 1
        self._update(
            metrics=evaluation.metrics,
            best_value=value if is_best else best,
            best_step=self.state.total_steps if is_best else self.state.best_step,
            evaluations_without_gain=waited,
            is_stopped=early is not None and waited >= early.patience,
        )
        if self.state.is_stopped:
            self.report.log(f"Stopped early: {name} has not improved for {waited} evaluations")
        return overall is None or value > overall[0]

    def _evaluate(self) -> Evaluation:
        result = evaluate(self.setup.stage, self.setup.validation, self.state.max_batch_tokens)
        self.report.metrics(
            self.state.total_steps,
            {f"eval/{name}": value for name, value in result.metrics.items()},
        )
        self.report.pause()
        return result

    def _save(self, folder: Path, *, is_best: bool) -> None:
        event = checkpoint.save(
            folder, self._trained, self.state,
            scaler=self.scaler.state_dict(), is_best=is_best,
        )  # fmt: skip
        self.report.emit(event)
        self.report.pause()
        if is_best:
            self.best = (event.folder, event.manifest_sha256)

    def finish(self) -> TrainState:
        """Take the weights of the best evaluation of all seeds; if they are lost, the last ones."""
        best, last = self.state.best, self.state.total_steps
        kept = last if best is None else best[1]
        self.state = self.state.done(self.seed)
        if kept != last:
            try:
                checkpoint.load_best(self.network, self.best)
            except CorruptFolder as error:
                self.report.log(
                    f"The best weights, of step {kept}, are lost; the last ones are kept: "
                    f"{error.message}",
                    "warning",
                )
                kept = last
            else:
                self.report.log(f"The best weights are those of step {kept}")
        self._update(kept_step=kept)
        return self.state

    def _smaller_batches(self) -> BatchPlan:
        """Halve the micro-batches: the batch and its gradient stay what they are."""
        if self._compares_rows:
            message = "the memory does not hold a batch, and its loss compares all rows of one"
            raise TrainingFailed(message, code="out_of_memory", param="optimization.batch_size")
        tokens = self.state.max_batch_tokens // 2
        if tokens < MIN_BATCH_TOKENS:
            message = "the memory does not hold a single example"
            raise TrainingFailed(message, code="out_of_memory", param="optimization.max_length")
        self.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._update(max_batch_tokens=tokens)
        self.report.log(
            f"Out of memory: {tokens} tokens go through the network at once from here on; "
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
