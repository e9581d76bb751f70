"""What a training needs besides its loop: sources, encoded sets, a resolved spec, networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from app.adapt.dataset import Prepared
from app.adapt.layers.depth import keep
from app.adapt.method import Method
from app.adapt.source import SHELL
from app.adapt.student import Student
from app.adapt.task import Example
from app.adapt.tokenizers import Tokenizers
from app.errors import TrainingFailed
from app.spec.distill import Distill
from app.spec.fine_tune import FineTune
from app.spec.resolve import Facts, estimate, starts_fresh
from app.spec.training import Training
from app.spec.transfer import Features, Mixed
from workers.protocol import Assignment
from workers.recipes.encoding import Room, Sets, encode_sets
from workers.recipes.objective import check_objective, make_losses
from workers.recipes.probe import probe
from workers.recipes.saving import write_shell
from workers.recipes.sources import Loaded, SourceLoader, pad_id_of
from workers.training.course import Setup
from workers.training.device import seed_step
from workers.training.evaluate import Stage
from workers.training.report import Report

FRESH_STEP = -1  # the seed that new weights are drawn from: before any step
GIB = 2**30


@dataclass(frozen=True)
class Start:
    """The network that a training starts from, prepared for a method, and what it reads texts with.

    `num_parameters` is counted before the method wraps, extends or quantizes anything.
    """

    network: torch.nn.Module
    tokenizers: Tokenizers
    num_parameters: int


@dataclass(frozen=True)
class Bench:
    """A job's data and sources, before it is settled by which method they are used."""

    assignment: Assignment
    spec: FineTune | Distill
    prepared: Prepared
    loaded: Loaded
    device: torch.device
    report: Report
    further: Sequence[Example] = ()  # texts for training that have no answers of their own

    @classmethod
    def open(
        cls, loader: SourceLoader, spec: FineTune | Distill, prepared: Prepared,
        device: torch.device, report: Report, teacher: Path | None = None,
    ) -> Bench:  # fmt: skip
        """Load the sources that the spec names, or make them; of a student, with its teacher's folder."""
        texts: Sequence[str] = []
        if isinstance(spec.model, Student):
            texts = [text for each in prepared.train for text in prepared.task.texts(each)]
        further = spec.transfer.models if isinstance(spec.transfer, Features) else []
        loaded = loader.load(spec.model, spec.revision, further, texts, teacher)
        return cls(loader.assignment, spec, prepared, loaded, device, report)

    @property
    def examples(self) -> dict[str, Sequence[Example]]:
        """The examples of each set, those without answers among the training ones."""
        return {
            "train": [*self.prepared.train, *self.further],
            "validation": self.prepared.validation,
            "test": self.prepared.test,
        }

    def start(self, method: Method, seed: int, shell: Path | None = None) -> Start:
        """Return what a training with this seed starts from.

        What the network is before the method prepares it, without its weights, is written to `shell`.
        """
        # New weights (a head, or all of them) are drawn here: the same for the same seed.
        seed_step(seed, 2**31 + FRESH_STEP)
        task, transfer, folder = self.prepared.task, self.spec.transfer, self.loaded.source.folder
        half = task.network()
        if method.probes:
            network = half.load_probe(task, self.loaded.folders, method)
        elif isinstance(transfer, Mixed):
            network = half.load(task, folder, fresh=True)
            keep(network, half.load(task, folder), transfer.layers)
        else:
            network = half.load(task, folder, fresh=transfer == "structure")
        config = cast("Any", network).config
        if config.pad_token_id is None:
            config.pad_token_id = pad_id_of(self.loaded.tokenizers.first)
        if shell is not None:
            write_shell(network, self.loaded.tokenizers, shell)
        num_parameters, tokenizers = count(network), self.loaded.tokenizers
        tokenizers = tokenizers.with_first(method.extend_tokenizer(tokenizers.first, network))
        return Start(method.prepare(network), tokenizers, num_parameters)


class Preparation:
    """One method on a bench: what all of its seeds share, and the setup of each."""

    def __init__(self, bench: Bench, method: Method, *, keeps_checkpoints: bool = True) -> None:
        self.bench = bench
        self.method = method
        spec = bench.spec.model_copy(update={"method": method, "task": bench.prepared.task})
        # A shell is for checkpoints, and without steps there are none.
        keeps = keeps_checkpoints and method.steps
        shell = bench.assignment.folder / SHELL if keeps else None
        start = bench.start(method, spec.runtime.seed, shell)
        self.tokenizers = start.tokenizers
        room = Room(
            start.num_parameters,
            bench.loaded.max_length,
            bench.device,
            full_rate=bench.loaded.source.full_rate,
            is_fresh=starts_fresh(spec.model, spec.transfer),
        )
        self.spec, sets, facts = encode_sets(
            spec, bench.examples, self.tokenizers, room, bench.report, bench.prepared.report
        )
        self.facts = replace(facts, num_trained=count(start.network, is_trained=True))
        self.pad_id = pad_id_of(self.tokenizers.first)
        self._network: torch.nn.Module | None = start.network.to(bench.device)
        self.sets = self._annotated(sets)
        # What the model is compared to reads texts without what a method puts before them.
        self.plain_sets = self.sets
        if self.tokenizers is not bench.loaded.tokenizers and spec.runtime.baselines:
            self.plain_sets = self._annotated(self._plain())

    def _plain(self) -> Sets:
        task, length = self.bench.prepared.task, int(self.spec.optimization.max_length)
        tokenizers = self.bench.loaded.tokenizers
        return {
            name: tokenizers.encode(task, items, length) if items else []
            for name, items in self.bench.examples.items()
        }

    def _annotated(self, sets: Sets) -> Sets:
        """Return the sets with what only the network that has not been trained can say of them."""
        task, network = self.bench.prepared.task, self._network
        annotate = task.network().annotate
        return {
            name: annotate(task, cast("Any", network).eval(), items, self.pad_id)
            for name, items in sets.items()
        }

    @property
    def loaded(self) -> Loaded:
        """The sources, with the tokenizers that a finished model reads texts with."""
        return replace(self.bench.loaded, tokenizers=self.tokenizers)

    def check_memory(self) -> None:
        """Say what the training will take of the memory that there is; see `check_memory`."""
        check_memory(self.spec, self.facts, self.bench.report)

    def setup(self, number: int) -> Setup:
        """Return the setup of a seed, counted from 0; its network is new."""
        bench = self.bench
        # The first one is there already: what was resolved came from its size.
        network, self._network = self._network, None
        if network is None or number:
            seed = self.spec.runtime.seed + number
            network = bench.start(self.method, seed).network.to(bench.device)
        stage = self.stage(network)
        if self.spec.losses is not None and isinstance(self.spec, FineTune):
            check_objective(stage, self.sets["train"])
        return Setup(
            spec=self.spec,
            stage=stage,
            train=self.sets["train"],
            validation=self.sets["validation"],
            folder=bench.assignment.folder / "checkpoints",
            checkpoints=bench.assignment.checkpoints,
        )

    def stage(self, network: torch.nn.Module) -> Stage:
        """Return the stage of a network."""
        bench, task = self.bench, self.bench.prepared.task
        return Stage(
            task=task,
            network=network,
            losses=make_losses(self.spec, task, bench.prepared.train),
            tokenizer=self.tokenizers.first,
            pad_id=self.pad_id,
            device=bench.device,
            precision=self.spec.runtime.precision,
            beat=bench.report.alive,
        )

    def fit_head(self, setup: Setup) -> dict[str, Any]:
        """Fit a linear head on what the network says before anything of it is trained."""
        tokens = int(setup.spec.optimization.max_batch_tokens)
        method: Any = self.method
        facts = probe(setup.stage, method, setup.train, setup.validation, tokens)
        self.bench.report.log(
            f"A head on {facts['features']} frozen features of {facts['rows']} rows: encoded in "
            f"{facts['encoding_s']} s, fitted in {facts['fitting_s']} s, C = {facts['regularization']:g}",
            data=facts,
        )
        return facts


def check_memory(spec: Training, facts: Facts, report: Report) -> None:
    """Say what a training will take of the memory that there is.

    Raises:
        TrainingFailed: weights, gradients and optimizer state alone are more than that.
    """
    cost, free = estimate(spec, facts), facts.memory_bytes
    needed = cost["memory_bytes"]
    check_state(cost["state_bytes"], free)
    where = f"about {needed / GIB:.1f} GiB of the {free / GIB:.1f} GiB that are free"
    if needed > free:
        message = f"The training may need {where}: batches are cut when they do not fit"
        report.log(message, "warning", data=cost | {"free_bytes": free})
    else:
        report.log(f"The training needs {where}", data=cost | {"free_bytes": free})


def check_state(state: int, free: int) -> None:
    """Refuse a training whose weights, gradients and optimizer state, in bytes, are more than is free.

    Raises:
        TrainingFailed: they are.
    """
    if state > free:
        message = (
            f"the model with what its training keeps takes {state / GIB:.1f} GiB, and "
            f"{free / GIB:.1f} GiB are free; choose a smaller model, or a method that trains less"
        )
        raise TrainingFailed(message, code="out_of_memory", param="model")


def finished(setup: Setup) -> Setup:
    """Return the setup with the network that is saved, which is what is judged: adapters are merged.

    It is on the CPU where the GPU has no room for it.
    """
    network = setup.spec.chosen_method.finish(setup.stage.network)
    device = next(network.parameters()).device
    return replace(setup, stage=replace(setup.stage, network=network, device=device))


def count(network: torch.nn.Module, *, is_trained: bool = False) -> int:
    """Return how many weights a network has, or how many of them train."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not is_trained)
