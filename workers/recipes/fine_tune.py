"""The `fine_tune` recipe: data, model and method put together, trained, judged, and saved as a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.adapt.method import Method
from app.adapt.plugins import METHODS
from app.jobs.state import Phase
from app.spec.choice import AutoMethod
from app.spec.fine_tune import FineTune
from workers.protocol import Assignment, FinishedEvent, ResolvedEvent
from workers.recipes.bench import Bench, Preparation
from workers.recipes.judging import baselines, judge, summarize
from workers.recipes.reading import read_data
from workers.recipes.saving import save_model
from workers.recipes.sources import SourceLoader
from workers.recipes.trials import choose_method
from workers.training.checkpoint import newest_state
from workers.training.device import choose_device, environment, make_deterministic
from workers.training.loop import Loop, Setup
from workers.training.report import Report


class FineTuneRecipe:
    """One `fine_tune` job, from its assignment to a finished model folder."""

    def __init__(
        self, assignment: Assignment, spec: FineTune, report: Report,
        should_drain: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.assignment = assignment
        self.spec = spec
        self.report = report
        self.should_drain = should_drain

    def run(self) -> FinishedEvent:
        """Do the job.

        Raises:
            AttuneError: the data, the model or the training is at fault.
            Drained: asked to stop; a checkpoint has been saved.
        """
        report = self.report
        report.phase(Phase.VALIDATING)
        device = choose_device(self.spec.runtime.device)
        make_deterministic()
        prepared = read_data(self.assignment, self.spec, report)
        report.phase(Phase.LOADING)
        loader = SourceLoader(self.assignment, self.spec.runtime.seed)
        bench = Bench.open(loader, self.spec, prepared, device, report)
        method, trials = self._method(bench)
        report.phase(Phase.ENCODING)
        preparation = Preparation(bench, method)
        preparation.check_memory()
        setup, loop = self._train(preparation, trials)
        network = setup.stage.network
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        # What is judged is what is saved: adapters are merged first.
        setup = replace(setup, stage=replace(setup.stage, network=method.finish(network)))
        tokens, sets = loop.state.max_batch_tokens, preparation.sets
        evaluations = judge(setup, sets, tokens, report)
        compared: dict[str, Any] = {}
        if self.spec.runtime.baselines and bench.loaded.source.kind != "made":
            compared = baselines(setup, bench.loaded.folders, sets, tokens)
        report.phase(Phase.SAVING)
        summary = summarize(loop.state, prepared, evaluations, compared)
        return save_model(
            self.assignment, setup, bench.loaded, prepared, evaluations,
            summary | {"trained_parameters": trained},
        )  # fmt: skip

    def _method(self, bench: Bench) -> tuple[Method, list[dict[str, Any]]]:
        """Return the method; one that trials chose is known from the checkpoints that came after them."""
        method = self.spec.method
        if not isinstance(method, AutoMethod):
            return method, []
        state = newest_state(self.assignment.checkpoints)
        if state is not None and state.method is not None:
            return METHODS[state.method["kind"]].model_validate(state.method), state.trials
        return choose_method(bench, method, self.should_drain)

    def _train(self, preparation: Preparation, trials: list[dict[str, Any]]) -> tuple[Setup, Loop]:
        """Train with each seed in turn, and leave the best weights in the last network."""
        method = preparation.method
        setup = preparation.setup(0)
        loop = Loop(setup, self.report, self.should_drain)
        start = loop.restore()
        if start is None and trials:
            loop.note_trials(method, trials)
        self.report.emit(
            ResolvedEvent(
                spec=loop.spec.model_dump(mode="json"),
                data=preparation.bench.prepared.report,
                environment=environment(setup.stage.device),
                resumed_from_step=start,
            )
        )
        if method.probes and start is None:
            self.report.phase(Phase.TRAINING)
            preparation.fit_head(setup)
        if not method.steps:
            return setup, loop
        loop.run()
        while not loop.is_last_seed:
            before = loop
            setup = preparation.setup(len(loop.state.seeds) + 1)
            if method.probes:
                preparation.fit_head(setup)
            loop = Loop(setup, self.report, self.should_drain)
            loop.follow(before)
            self.report.log(
                f"Seed {loop.seed}, number {len(loop.state.seeds) + 1} of {loop.runtime.seeds}"
            )
            loop.run()
        loop.finish()
        return setup, loop
