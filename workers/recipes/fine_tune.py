"""The `fine_tune` recipe: data, model and method put together, trained, judged, and saved as a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from app.adapt.method import Method
from app.adapt.plugins import METHODS
from app.jobs.state import Phase
from app.spec.choice import AutoMethod
from app.spec.fine_tune import FineTune
from workers.protocol import FinishedEvent
from workers.recipes.bench import Bench, Preparation, count, finished
from workers.recipes.judging import baselines, judge, summarize
from workers.recipes.reading import read_data
from workers.recipes.recipe import Recipe
from workers.recipes.saving import save_model
from workers.recipes.seeds import begin, run_seeds
from workers.recipes.sources import SourceLoader
from workers.recipes.trials import choose_method
from workers.training.checkpoint import newest_state
from workers.training.course import Setup
from workers.training.loop import Loop


@dataclass(frozen=True)
class FineTuneRecipe(Recipe[FineTune]):
    """One `fine_tune` job, from its assignment to a finished model folder."""

    def run(self) -> FinishedEvent:
        """Do the job.

        Raises:
            AttuneError: the data, the model or the training is at fault.
            Drained: asked to stop; a checkpoint has been saved.
        """
        report = self.report
        device = self.begin()
        prepared = read_data(self.assignment, self.spec, report)
        report.phase(Phase.LOADING)
        loader = SourceLoader(self.assignment, self.spec.runtime.seed)
        bench = Bench.open(loader, self.spec, prepared, device, report)
        method, trials = self._method(bench)
        report.phase(Phase.ENCODING)
        preparation = Preparation(bench, method)
        preparation.check_memory()
        loop = self._train(preparation, trials)
        trained = count(loop.network, is_trained=True)
        setup = finished(loop.setup)
        tokens, sets = loop.state.max_batch_tokens, preparation.sets
        evaluations = judge(setup, sets, tokens, report)
        compared: dict[str, Any] = {}
        if self.spec.runtime.baselines and bench.loaded.source.kind != "made":
            stage = replace(setup.stage, tokenizer=bench.loaded.tokenizers.first)
            compared = baselines(
                replace(setup, stage=stage), bench.loaded.folders, preparation.plain_sets, tokens
            )
        report.phase(Phase.SAVING)
        summary = summarize(loop.state, prepared, evaluations, compared)
        return save_model(
            self.assignment, setup, preparation.loaded, prepared, evaluations,
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

    def _train(self, preparation: Preparation, trials: list[dict[str, Any]]) -> Loop[Setup]:
        """Train with each seed in turn; the loop that is returned has the best weights."""
        method, data_report = preparation.method, preparation.bench.prepared.report
        loop, start = begin(preparation.setup(0), data_report, self.report, self.should_drain)
        if start is None and trials:
            loop.note_trials(method, trials)
        if method.probes and start is None:
            self.report.phase(Phase.TRAINING)
            preparation.fit_head(loop.setup)
        if not method.steps:
            return loop

        def setup_of(number: int) -> Setup:
            setup = preparation.setup(number)
            if method.probes:
                preparation.fit_head(setup)
            return setup

        return run_seeds(loop, setup_of)
