"""Several tasks around one encoder, ready to be trained: their data, one network, one resolved spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from app.adapt.layers.shared_trunk import SharedTrunk, head_names, load_trunk
from app.errors import within
from app.spec.fine_tune import FineTune
from app.spec.multi_task import MultiTask
from app.spec.resolve import Facts, resolve
from workers.protocol import Event, LogEvent
from workers.recipes.bench import FRESH_STEP, Bench, check_memory, count
from workers.recipes.encoding import Room, Sets, encode_sets
from workers.recipes.objective import check_objective, make_losses
from workers.recipes.sources import pad_id_of
from workers.training.course import Course
from workers.training.device import seed_step
from workers.training.evaluate import Stage
from workers.training.mixture import Mixture
from workers.training.report import Report
from workers.training.several import SeveralStage, Uncertainty, marked
from workers.training.surgery import GradientSurgery


@dataclass(frozen=True)
class Member:
    """One of the tasks: its bench, its resolved spec, and its encoded sets."""

    bench: Bench
    spec: FineTune
    sets: Sets

    @property
    def max_length(self) -> int:
        """How many tokens its texts are cut to."""
        return int(self.spec.optimization.max_length)


class Team:
    """The tasks of a job in the order of their names, and what each seed of them trains on."""

    def __init__(self, spec: MultiTask, benches: Mapping[str, Bench]) -> None:
        self._given = spec
        self._benches = dict(sorted(benches.items()))
        self._first = next(iter(self._benches.values()))
        self.device = self._first.device
        network = self._network(spec.runtime.seed)
        self.num_parameters = count(network)
        self.members, facts = self._encoded(count(network))
        self.spec = self._resolved(facts, network)
        self._waiting: SharedTrunk | None = network
        self.mixture = Mixture(
            [len(member.sets["train"]) for member in self.members.values()],
            spec.sampling_exponent,
        )

    @property
    def rows_a_step(self) -> dict[str, int]:
        """How many rows of each task a step has."""
        size = int(self.spec.optimization.batch_size)
        return dict(zip(self.members, self.mixture.rows_a_step(size), strict=True))

    def check_memory(self) -> None:
        """Say what the training will take of the memory that there is; see `bench.check_memory`."""
        first = next(iter(self.members.values()))
        spec = first.spec.model_copy(
            update={"optimization": self.spec.optimization, "runtime": self.spec.runtime}
        )
        check_memory(spec, self._facts, self._first.report)

    def course(self, number: int) -> Course:
        """Return what the seed of this number, counted from 0, trains on; its network is new."""
        network, self._waiting = self._waiting, None
        if network is None or number:
            network = self._network(self.spec.runtime.seed + number)
        network = cast("SharedTrunk", self.spec.chosen_method.prepare(network)).to(self.device)
        stage = self.stage(network)
        members = self.members
        return Course(
            spec=self.spec,
            stage=stage,
            train=[row for n, m in members.items() for row in marked(m.sets["train"], n)],
            validation=[row for n, m in members.items() for row in marked(m.sets["validation"], n)],
            folder=self._first.assignment.folder / "checkpoints",
            checkpoints=self._first.assignment.checkpoints,
            mixture=self.mixture,
            surgery=self._surgery(network),
        )

    def stage(self, network: SharedTrunk) -> SeveralStage:
        """Return the stage of a network, with a stage for each task."""
        learned = nn.ModuleDict()
        if self.spec.weighting == "uncertainty":
            learned["uncertainty"] = Uncertainty(list(self.members)).to(self.device)
        stages = {name: self._stage(name, network) for name in self.members}
        weights = {name: self._given.tasks[name].weight for name in self.members}
        return SeveralStage(stages, network, weights, learned)

    def _stage(self, name: str, network: SharedTrunk) -> Stage:
        member = self.members[name]
        bench, task = member.bench, member.bench.prepared.task
        tokenizer = bench.loaded.tokenizers.first
        with within(f"tasks.{name}"):
            stage = Stage(
                task=task,
                network=network.part(name),
                losses=make_losses(member.spec, task, bench.prepared.train),
                tokenizer=tokenizer,
                pad_id=pad_id_of(tokenizer),
                device=self.device,
                precision=self.spec.runtime.precision,
                beat=bench.report.alive,
            )
            if member.spec.losses is not None:
                check_objective(stage, member.sets["train"])
        return stage

    def _surgery(self, network: SharedTrunk) -> GradientSurgery | None:
        if self.spec.weighting != "pcgrad":
            return None
        return GradientSurgery(list(network.parameters()), list(network.trunk.parameters()))

    def _network(self, seed: int) -> SharedTrunk:
        seed_step(seed, 2**31 + FRESH_STEP)
        networks: dict[str, Any] = {}
        for name, bench in self._benches.items():
            task = bench.prepared.task
            with within(f"tasks.{name}"):
                network: Any = task.network().load(task, bench.loaded.source.folder)
            if network.config.pad_token_id is None:
                network.config.pad_token_id = pad_id_of(bench.loaded.tokenizers.first)
            networks[name] = network
        # Heads that stay ask for all that their encoder has.
        folder = self._first.loaded.source.folder
        keeps = self._given.trunk == "frozen" and head_names(folder)
        return SharedTrunk(networks, load_trunk(folder) if keeps else None)

    def _encoded(self, num_parameters: int) -> tuple[dict[str, Member], Facts]:
        """Encode the sets of every task; the facts are those of all rows together."""
        members: dict[str, Member] = {}
        known: list[Facts] = []
        for name, bench in self._benches.items():
            spec = cast("FineTune", bench.spec)
            spec = spec.model_copy(update={"task": bench.prepared.task})
            room = Room(
                num_parameters, bench.loaded.max_length, self.device,
                full_rate=bench.loaded.source.full_rate,
            )  # fmt: skip
            with within(f"tasks.{name}"):
                resolved, sets, facts = encode_sets(
                    spec, bench.examples, bench.loaded.tokenizers, room, bench.report,
                    bench.prepared.report,
                )  # fmt: skip
            members[name] = Member(bench, resolved, sets)
            known.append(facts)
        lengths = [length for facts in known for length in facts.lengths]
        longest = [length for facts in known for length in facts.longest or facts.lengths]
        return members, replace(known[0], lengths=lengths, longest=longest)

    def _resolved(self, facts: Facts, network: SharedTrunk) -> MultiTask:
        """Return the spec without any "auto": what one task with all these rows would have."""
        members = self.members.values()
        first = next(iter(members))
        optimization = self._given.optimization.model_copy(
            update={
                "max_length": max(member.max_length for member in members),
                "batch_size": max(int(m.spec.optimization.batch_size) for m in members),
            }
        )
        together = first.spec.model_copy(
            update={"optimization": optimization, "runtime": self._given.runtime}
        )
        resolved = resolve(together, facts)
        method = self._given.chosen_method
        if self._given.trunk == "frozen":
            kept = sorted(network.trunk_names())
            method = method.model_copy(update={"freeze": [*method.freeze, *kept]})
        self._facts = facts
        parts = {
            name: self._given.tasks[name].model_copy(update={"task": member.bench.prepared.task})
            for name, member in self.members.items()
        }
        return self._given.model_copy(
            update={
                "optimization": resolved.optimization,
                "runtime": resolved.runtime,
                "method": method,
                "tasks": parts,
            }
        )


def named(report: Report, name: str) -> Report:
    """Return a report whose sentences begin with the name of a task."""

    def emit(event: Event) -> None:
        if isinstance(event, LogEvent):
            event = event.model_copy(update={"message": f"{name}: {event.message}"})
        report.emit(event)

    return Report(emit)


def finished_network(course: Course, network: nn.Module) -> SharedTrunk:
    """Return the network that is saved, which is what is judged: adapters are merged."""
    return cast("SharedTrunk", course.spec.chosen_method.finish(network))


@torch.no_grad()
def num_parameters_apart(network: SharedTrunk) -> int:
    """Return how many weights the tasks' networks have where each has an encoder of its own."""
    return sum(count(network.part(name)) for name in network.names)
