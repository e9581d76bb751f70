"""The `pretrain` recipe: a corpus as tokens, rows of it by position, trained, judged, saved as a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from app.adapt.dataset import Prepared
from app.jobs.state import Phase
from app.spec.pretrain import Pretrain
from app.store.durable import remove_folder
from workers.protocol import FinishedEvent
from workers.recipes.baselines import untouched
from workers.recipes.bench import count, finished
from workers.recipes.corpus import JobCorpus
from workers.recipes.judging import judge, summarize
from workers.recipes.pretrain_bench import Preparation, PretrainBench, load
from workers.recipes.probing import Probing
from workers.recipes.recipe import Recipe
from workers.recipes.saving import save_model
from workers.recipes.seeds import resume
from workers.training.course import Setup
from workers.training.pretrain_loop import PretrainLoop
from workers.training.state import TrainState


@dataclass(frozen=True)
class PretrainRecipe(Recipe[Pretrain]):
    """One `pretrain` job, from its assignment to a finished model folder."""

    def run(self) -> FinishedEvent:
        """Do the job.

        Raises:
            AttuneError: the data, the model or the training is at fault.
            Drained: asked to stop; a checkpoint has been saved.
        """
        report, spec = self.report, self.spec
        device = self.begin()
        corpus = JobCorpus(self.assignment, spec, report)
        probing = spec.probe and Probing.read(
            self.assignment, spec.probe, report, spec.runtime.seed
        )
        report.phase(Phase.LOADING)
        loaded = load(self.assignment, spec, corpus)
        report.phase(Phase.ENCODING)
        bench = PretrainBench.open(self.assignment, spec, corpus, loaded, device, report)
        preparation = bench.prepare()
        setup = preparation.setup()
        loop = PretrainLoop(setup, preparation.rows, preparation.width, report, self.should_drain)
        # First, because a task that no probe does shall not be found out about in the end.
        before = self._probed(probing, preparation, setup, None)
        resume(loop, corpus.report_section)
        loop.run()
        loop.finish()
        trained = count(loop.network, is_trained=True)
        setup = finished(loop.setup)
        summary = self._judged(corpus, preparation, setup, loop.state)
        summary["trained_parameters"] = trained
        if probing is not None:
            after = self._probed(probing, preparation, setup, setup.stage.network)
            summary["probe"] = probing.compared(before, after)
        report.phase(Phase.SAVING)
        evaluations = summary.pop("evaluations")
        return save_model(
            self.assignment, setup, loaded, self._prepared(corpus), evaluations, summary
        )

    def _judged(
        self, corpus: JobCorpus, preparation: Preparation, setup: Setup, state: TrainState
    ) -> dict[str, Any]:
        """Return the job's report, with the evaluations that it was made from under `evaluations`."""
        sets = {"validation": preparation.held_out, "test": []}
        evaluations = judge(setup, sets, state.max_batch_tokens, self.report)
        compared: dict[str, Any] = {}
        if self.spec.runtime.baselines:
            folder = preparation.bench.loaded.source.folder
            figures = untouched(setup.stage, folder, sets, state.max_batch_tokens)
            compared = {"untouched": figures} if figures else {}
        tokens = preparation.bench.tokens
        found = summarize(state, self._prepared(corpus), evaluations, compared)
        found["pretraining"] = {
            "objective": self.spec.objective.name(),
            "tokens": {name: asdict(counts) for name, counts in tokens.counts.items()},
            "vocabulary_size": len(preparation.bench.loaded.tokenizers.first),
            "tokens_seen": state.trained_tokens,
            "held_out_rows": len(preparation.held_out),
            "perplexity": {
                "before": state.before.get("perplexity"),
                "after": evaluations["validation"].metrics.get("perplexity"),
            },
        }
        return found | {"evaluations": evaluations}

    def _prepared(self, corpus: JobCorpus) -> Prepared:
        section = corpus.report_section
        return Prepared(self.spec.task, [], [], [], section["columns"], section)

    def _probed(
        self, probing: Probing | None, preparation: Preparation, setup: Setup,
        network: torch.nn.Module | None,
    ) -> dict[str, Any]:  # fmt: skip
        """Return a linear probe's figures on the source, or on the network that came of it."""
        if probing is None:
            return {}
        loaded, folder = preparation.bench.loaded, preparation.bench.loaded.source.folder
        if network is not None:
            folder = self.assignment.folder / "probed"
            remove_folder(folder)
            folder.mkdir()
            setup.stage.task.network().save(network, folder)
            loaded.tokenizers.save(folder)
        self.report.log(f"A linear probe {'before' if network is None else 'after'} the training")
        tokens = int(setup.spec.optimization.max_batch_tokens)
        return probing.figures(folder, loaded, setup.stage, tokens)
