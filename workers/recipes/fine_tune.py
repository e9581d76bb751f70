"""The `fine_tune` recipe: data, model and method put together, trained, judged, and saved as a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoTokenizer

from app.adapt.coverage import unknown_tokens
from app.adapt.dataset import Prepared, prepare
from app.adapt.layers.depth import keep
from app.adapt.outputs import Encoded
from app.adapt.parallel import read_set
from app.adapt.source import Source, Sources, finished_source
from app.adapt.task import Example, Task
from app.errors import InvalidData
from app.jobs.state import Phase
from app.spec.fine_tune import FineTune
from app.spec.resolve import Facts, resolve
from app.spec.transfer import Mixed
from app.store.durable import sha256_of
from workers.protocol import Assignment, FinishedEvent, ResolvedEvent
from workers.recipes.baselines import linear_probe, untouched
from workers.recipes.objective import check_objective, make_losses
from workers.recipes.probe import probe
from workers.recipes.saving import save_model
from workers.training.device import (
    choose_device,
    environment,
    free_memory_bytes,
    has_bf16,
    make_deterministic,
    seed_step,
)
from workers.training.evaluate import Evaluation, Stage, evaluate
from workers.training.loop import Loop, Setup
from workers.training.report import Report
from workers.training.state import TrainState

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_ROWS = 5_000_000
NO_LIMIT = 10**9  # tokenizers that know no limit say 10**30
FRESH_STEP = -1  # the seed that new weights are drawn from: before any step


@dataclass(frozen=True)
class Loaded:
    """A source with its tokenizer."""

    source: Source
    tokenizer: PreTrainedTokenizerBase
    max_length: int


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
        prepared = self._prepare()
        report.phase(Phase.LOADING)
        base = self._load()
        network = self._network(base, prepared.task)
        # Counted before a method puts any of them into fewer bits.
        parameters = sum(p.numel() for p in network.parameters())
        loaded = self._extended(base, network)
        network = self.spec.method.prepare(network)
        report.phase(Phase.ENCODING)
        resolved, sets = self._encode(prepared, loaded, parameters, device)
        sets = annotated(prepared.task, network.to(device), base, sets)
        plain = annotated(
            prepared.task, network, base, self._plain(prepared, base, loaded, resolved)
        )
        setup = self._setup(resolved, prepared, loaded, network, sets)
        loop = Loop(setup, report, self.should_drain)
        start = loop.restore()
        report.emit(
            ResolvedEvent(
                spec=loop.spec.model_dump(mode="json"),
                data=prepared.report,
                environment=environment(device),
                resumed_from_step=start,
            )
        )
        if resolved.method.probes and start is None:
            self._probe(setup)
        state = loop.run() if resolved.method.steps else loop.state
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        setup = finished(setup)
        evaluations, baselines = self._judge(
            setup, base, sets, plain or sets, state.max_batch_tokens
        )
        report.phase(Phase.SAVING)
        summary = summarize(state, prepared, evaluations, baselines)
        return save_model(
            self.assignment, setup, loaded, prepared, evaluations,
            summary | {"trained_parameters": trained},
        )  # fmt: skip

    def _probe(self, setup: Setup) -> None:
        """Fit a linear head on what the network says before anything of it is trained."""
        self.report.phase(Phase.TRAINING)
        method: Any = setup.spec.method
        tokens = int(setup.spec.optimization.max_batch_tokens)
        facts = probe(setup.stage, method, setup.train, setup.validation, tokens)
        self.report.log(
            f"A head on {facts['features']} frozen features of {facts['rows']} rows: encoded in "
            f"{facts['encoding_s']} s, fitted in {facts['fitting_s']} s, C = {facts['regularization']:g}",
            data=facts,
        )

    def _judge(
        self, setup: Setup, base: Loaded, sets: dict[str, list[Encoded]],
        plain: dict[str, list[Encoded]], max_tokens: int,
    ) -> tuple[dict[str, Evaluation], dict[str, Any]]:  # fmt: skip
        """Evaluate the finished network, and beside it what it has to beat, which reads `plain` sets."""
        self.report.phase(Phase.EVALUATING)
        evaluations = {
            name: evaluate(setup.stage, sets[name], max_tokens, intervals=True)
            for name in ("validation", "test")
            if sets[name]
        }
        if not self.spec.runtime.baselines:
            return evaluations, {}
        folder, seed = base.source.folder, self.spec.runtime.seed
        stage = replace(setup.stage, tokenizer=base.tokenizer)
        found = {"untouched": untouched(stage, folder, plain, max_tokens)}
        if setup.spec.method.steps:
            found["linear_probe"] = linear_probe(stage, folder, plain, max_tokens, seed)
        return evaluations, {name: figures for name, figures in found.items() if figures}

    def _setup(
        self, resolved: FineTune, prepared: Prepared, loaded: Loaded, network: torch.nn.Module,
        sets: dict[str, list[Encoded]],
    ) -> Setup:  # fmt: skip
        task = prepared.task
        stage = Stage(
            task=task,
            network=network,
            losses=make_losses(resolved, task, prepared.train),
            tokenizer=loaded.tokenizer,
            pad_id=_pad_id(loaded.tokenizer),
            device=next(network.parameters()).device,
            precision=resolved.runtime.precision,
            beat=self.report.alive,
        )
        if self.spec.losses is not None:
            check_objective(stage, sets["train"])
        return Setup(
            spec=resolved,
            stage=stage,
            train=sets["train"],
            validation=sets["validation"],
            folder=self.assignment.folder / "checkpoints",
            checkpoints=self.assignment.checkpoints,
        )

    def _prepare(self) -> Prepared:
        data = self.spec.data
        read = {
            name: read_set(
                {role: self._checked(file_id) for role, file_id in sides.items()},
                f"data.{name}",
                max_rows=MAX_ROWS,
            )
            for name, sides in data.sets().items()
        }
        prepared = prepare(
            self.spec.task, data, read["train"], read.get("validation"), read.get("test")
        )
        for warning in prepared.warnings:
            self.report.log(warning, "warning")
        return prepared

    def _checked(self, file_id: str) -> tuple[Path, str]:
        file = self.assignment.files[file_id]
        # A disk or a person may have changed it since the upload that its report was made from.
        if not file.path.is_file() or sha256_of(file.path) != file.sha256:
            message = f"{file.filename} is not what was uploaded any more; upload it again"
            raise InvalidData(message, param="data", code="file_damaged",
                              details={"file": file.filename, "id": file.id})  # fmt: skip
        return file.path, file.filename

    def _load(self) -> Loaded:
        folder = self.assignment.models.get(self.spec.model)
        if folder is not None:
            source = finished_source(self.spec.model, folder)
        else:
            sources = Sources(self.assignment.model_dirs, hub=self.assignment.hub)
            source = sources.resolve(self.spec.model, self.spec.revision)
        tokenizer: Any = AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return Loaded(source, tokenizer, max_length_of(source, tokenizer))

    def _network(self, loaded: Loaded, task: Task) -> torch.nn.Module:
        # New weights (a head, or all of them) are drawn here: the same for the same seed.
        seed_step(self.spec.runtime.seed, 2**31 + FRESH_STEP)
        transfer, folder = self.spec.transfer, loaded.source.folder
        half = task.network()
        if self.spec.method.probes:
            network = half.load_probe(task, [folder], self.spec.method)
        elif isinstance(transfer, Mixed):
            network = half.load(task, folder, fresh=True)
            keep(network, half.load(task, folder), transfer.layers)
        else:
            network = half.load(task, folder, fresh=transfer == "structure")
        config = cast("Any", network).config
        if config.pad_token_id is None:
            config.pad_token_id = _pad_id(loaded.tokenizer)
        return network

    def _extended(self, base: Loaded, network: torch.nn.Module) -> Loaded:
        """Return the source with the tokenizer that the method reads texts with."""
        extended = self.spec.method.extend_tokenizer(base.tokenizer, network)
        return replace(base, tokenizer=extended)

    @staticmethod
    def _plain(
        prepared: Prepared, base: Loaded, loaded: Loaded, resolved: FineTune
    ) -> dict[str, list[Encoded]]:
        """Return the sets as the source itself reads them; none where the method reads them so too."""
        if loaded.tokenizer is base.tokenizer:
            return {}
        examples = {
            "train": prepared.train,
            "validation": prepared.validation,
            "test": prepared.test,
        }
        length = int(resolved.optimization.max_length)
        return {
            name: prepared.task.encode(base.tokenizer, items, length) if items else []
            for name, items in examples.items()
        }

    def _encode(
        self, prepared: Prepared, loaded: Loaded, parameters: int, device: torch.device
    ) -> tuple[FineTune, dict[str, list[Encoded]]]:
        """Tokenize once at full length; the length that is resolved from it only cuts."""
        examples = {
            "train": prepared.train,
            "validation": prepared.validation,
            "test": prepared.test,
        }
        task, tokenizer = prepared.task, loaded.tokenizer
        full = task.encode(tokenizer, prepared.train, loaded.max_length)
        warning = unknown_tokens((item.input_ids for item in full), _id(tokenizer.unk_token_id))
        if warning is not None:
            self.report.log(f"train: {warning}", "warning")
        facts = Facts(
            lengths=[len(item) for item in full],
            longest=[item.longest for item in full],
            num_parameters=parameters,
            model_max_length=loaded.max_length,
            memory_bytes=free_memory_bytes(device),
            device=device.type,
            has_bf16=has_bf16(device),
        )
        spec = self.spec.model_copy(update={"task": task})
        resolved = resolve(spec, facts)
        length = int(resolved.optimization.max_length)
        sets = {
            name: task.encode(tokenizer, items, length) if items else []
            for name, items in examples.items()
            if name != "train"
        }
        sets["train"], long = recut(task, tokenizer, prepared.train, full, length)
        if long:
            self.report.log(long)
        return resolved, sets


def annotated(
    task: Task, network: torch.nn.Module, base: Loaded, sets: dict[str, list[Encoded]]
) -> dict[str, list[Encoded]]:
    """Return the sets with what only the network that has not been trained can say of them."""
    annotate, pad_id = task.network().annotate, _pad_id(base.tokenizer)
    return {name: annotate(task, network.eval(), items, pad_id) for name, items in sets.items()}


def finished(setup: Setup) -> Setup:
    """Return the setup with what is saved, which is what is judged: adapters are merged.

    It is on the CPU where the GPU has no room for it.
    """
    network = setup.spec.method.finish(setup.stage.network)
    device = next(network.parameters()).device
    return replace(setup, stage=replace(setup.stage, network=network, device=device))


def summarize(
    state: TrainState, prepared: Prepared, evaluations: dict[str, Evaluation],
    baselines: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return the job's report: data, quality before and after, and what it has to beat."""
    name, _ = prepared.task.primary_metric()
    return {
        "data": prepared.report,
        "primary_metric": name,
        "steps": state.step,
        "best_step": state.best_step,
        "trained_tokens": state.trained_tokens,
        "stopped_early": state.is_stopped,
        "before": state.before,
        "evaluation": {
            split: {"metrics": result.metrics, "intervals": result.intervals, **result.details}
            for split, result in evaluations.items()
        },
        "baselines": majority(prepared) | baselines,
    }


def majority(prepared: Prepared) -> dict[str, Any]:
    """Return the figures of always answering the commonest training label; empty where none is."""
    task = prepared.task
    counts = Counter(task.stratum(example) for example in prepared.train)
    if None in counts or not counts:
        return {}
    label = counts.most_common(1)[0][0]
    sets = {"validation": prepared.validation, "test": prepared.test}
    shares = {
        name: sum(task.stratum(example) == label for example in items) / len(items)
        for name, items in sets.items()
        if items
    }
    return {"majority": {name: {"metrics": {"accuracy": share}} for name, share in shares.items()}}


def recut(
    task: Task, tokenizer: Any, examples: Sequence[Example], full: list[Encoded], length: int
) -> tuple[list[Encoded], str | None]:
    """Encode again what is longer than `length`; return all rows, and what is to be said of it."""
    long = sorted({item.example for item in full if item.longest > length})
    if not long:
        return full, None
    again: dict[int, list[Encoded]] = {example: [] for example in long}
    for item in task.encode(tokenizer, [examples[example] for example in long], length):
        example = long[item.example]
        again[example].append(replace(item, example=example))
    rows: list[Encoded] = []
    for example, members in groupby(full, key=lambda item: item.example):
        rows += again.get(example, members)
    kept = sum(len(again[example]) > 1 for example in long)
    message = f"{len(long)} training texts are longer than {length} tokens: "
    message += f"{len(long) - kept} are cut, " if len(long) > kept else ""
    message += f"{kept} are read in several windows" if kept else ""
    return rows, message.rstrip(", ")


def max_length_of(source: Source, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model can take: its positions, or its tokenizer's word for it."""
    limit = min(source.max_positions or NO_LIMIT, tokenizer.model_max_length)
    return int(limit) if limit < NO_LIMIT else 512


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return _id(tokenizer.pad_token_id) or 0


def _id(value: Any) -> int | None:
    return None if value is None else int(value)
