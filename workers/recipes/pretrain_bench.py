"""What a pretraining needs besides its loop: a network, rows of tokens, a resolved spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch

from app.adapt.backbone import make_folder
from app.adapt.layers.packing import keeps_apart
from app.adapt.outputs import Encoded
from app.adapt.piece_table import PieceTable
from app.adapt.plugins import LOSSES
from app.adapt.source import SHELL, Source
from app.adapt.token_file import TokenFile
from app.adapt.token_rows import HELD_OUT_SEED, Alone, Cut, Packed, Rows
from app.adapt.tokenizers import Tokenizers, load_tokenizer
from app.errors import InvalidSpec
from app.spec.pretrain import Pretrain
from app.spec.resolve_pretrain import CorpusFacts, estimate_pretrain, resolve_pretrain
from app.store.weights import check_model_folder
from workers.protocol import Assignment
from workers.recipes.bench import FRESH_STEP, check_state, count
from workers.recipes.corpus import JobCorpus, Tokens
from workers.recipes.saving import write_shell
from workers.recipes.sources import Loaded, SourceLoader, max_length_of, pad_id_of
from workers.training.course import Setup
from workers.training.device import free_memory_bytes, has_bf16, seed_step
from workers.training.evaluate import Stage
from workers.training.report import Report

MAX_HELD_OUT = 1_000  # rows that are judged, evenly spread; the same ones in each evaluation


def load(assignment: Assignment, spec: Pretrain, corpus: JobCorpus) -> Loaded:
    """Return the model that is trained on, or make one of random weights.

    Raises:
        InvalidSpec: no such model, or a vocabulary that is too small.
    """
    loader = SourceLoader(assignment, spec.runtime.seed)
    if isinstance(spec.model, str):
        return loader.load(spec.model, spec.revision)
    if isinstance(spec.tokenizer, str):
        tokenizer = loader.load(spec.tokenizer).tokenizers.first
        tokenizer.model_max_length = spec.model.max_length
    else:
        segmenter = spec.segmenter
        if segmenter is None:
            raise AssertionError
        tokenizer = load_tokenizer(corpus.learned(segmenter, spec.model))
    folder = assignment.folder / "source-made"
    make_folder(spec.model, tokenizer, folder, spec.runtime.seed)
    name = spec.model.name()
    source = Source(name, "made", folder, check_model_folder(folder, name))
    tokenizers = Tokenizers.load(folder)
    tokenizers.first.model_max_length = max_length_of(source, tokenizers.first)
    return Loaded(source, tokenizers, tokenizers.first.model_max_length)


@dataclass(frozen=True)
class PretrainBench:
    """A job's corpus as tokens, and the model that is to learn from it."""

    assignment: Assignment
    spec: Pretrain
    loaded: Loaded
    pieces: PieceTable
    tokens: Tokens
    device: torch.device
    report: Report

    @classmethod
    def open(
        cls, assignment: Assignment, spec: Pretrain, corpus: JobCorpus, loaded: Loaded,
        device: torch.device, report: Report,
    ) -> PretrainBench:  # fmt: skip
        """Turn the corpus into tokens."""
        tokenizer = loaded.tokenizers.first
        pieces = PieceTable.of(tokenizer)
        spec.objective.check(pieces, loaded.max_length)
        tokens = corpus.tokens(tokenizer, pieces, spec.objective.ends(pieces))
        return cls(assignment, spec, loaded, pieces, tokens, device, report)

    def prepare(self) -> Preparation:
        """Load the network, resolve the spec and cut the tokens into rows.

        Raises:
            InvalidSpec: model and objective do not fit each other.
            TrainingFailed: the model with what its training keeps is more than the memory.
        """
        spec, folder = self.spec, self.loaded.source.folder
        # A head that the source does not have is drawn here: the same for the same seed.
        seed_step(spec.runtime.seed, 2**31 + FRESH_STEP)
        network: Any = spec.task.network().load(spec.task, folder)
        if network.config.pad_token_id is None:
            network.config.pad_token_id = pad_id_of(self.loaded.tokenizers.first)
        write_shell(network, self.loaded.tokenizers, self.assignment.folder / SHELL)
        facts = self._facts(network)
        network = spec.chosen_method.prepare(network)
        resolved = resolve_pretrain(spec, facts)
        self._check_memory(estimate_pretrain(resolved, facts), facts.memory_bytes)
        length, packs = int(resolved.optimization.max_length), resolved.optimization.packing is True
        spec.objective.check(self.pieces, length)
        apart = packs and self._keeps_apart(network)
        network.to(self.device)
        seed = spec.runtime.seed
        rows = self._rows(self.tokens.train, length, seed, packs=packs, apart=apart)
        judged = self._rows(self.tokens.validation, length, HELD_OUT_SEED, packs=packs, apart=apart)
        return Preparation(self, resolved, network, rows, judged.spread(MAX_HELD_OUT))

    def num_rows(self, length: int, packs: bool) -> int:  # noqa: FBT001 - of a callback
        """Return how many rows of this length the corpus makes."""
        return len(self._cut(self.tokens.train, length, packs=packs))

    def _rows(
        self, file: TokenFile, length: int, seed: int, *, packs: bool, apart: bool
    ) -> Rows:  # fmt: skip
        cut = self._cut(file, length, packs=packs)
        return Rows(file, cut, self.spec.objective, self.pieces, seed, apart)

    def _cut(self, file: TokenFile, length: int, *, packs: bool) -> Cut:
        room = self.spec.objective.room(self.pieces, length)
        return Packed(len(file), room) if packs else Alone(file, room)

    def _keeps_apart(self, network: torch.nn.Module) -> bool:
        wanted = self.spec.objective.separates
        if wanted is False:
            return False
        can = keeps_apart(network)
        if wanted and not can:
            message = (
                "objective.documents: this network cannot keep the documents of a row apart; take "
                "'joined', or optimization.packing false"
            )
            raise InvalidSpec(message, param="objective.documents", code="cannot_pack")
        if not can:
            self.report.log("Documents that share a row see each other: this network joins them")
        return can

    def _facts(self, network: Any) -> CorpusFacts:
        embeddings: Any = network.get_input_embeddings()
        known = int(embeddings.weight.shape[0])
        if len(self.pieces.is_special_V) > known:
            message = (
                f"model: its tokenizer has ids up to {len(self.pieces.is_special_V) - 1}, and it has "
                f"{known} embeddings"
            )
            raise InvalidSpec(message, param="model", code="model_does_not_fit")
        return CorpusFacts(
            tokens=self.tokens.counts["train"].tokens,
            num_documents=self.tokens.counts["train"].documents,
            num_rows=self.num_rows,
            num_parameters=count(network),
            num_embeddings=embeddings.weight.numel(),
            model_max_length=self.loaded.max_length,
            memory_bytes=free_memory_bytes(self.device),
            device=self.device.type,
            is_fresh=not isinstance(self.spec.model, str),
            has_bf16=has_bf16(self.device),
            cores=psutil.cpu_count(logical=False) or 1,
            row_tokens=lambda length: self.spec.objective.width(self.pieces, length),
        )

    def _check_memory(self, cost: dict[str, Any], free: int) -> None:
        check_state(cost["state_bytes"], free)
        self.report.log(
            f"{cost['steps']:,} steps on {cost['tokens']:,} tokens",
            data=cost | {"free_bytes": free},
        )


@dataclass(frozen=True)
class Preparation:
    """A resolved spec, a network on its device, and the rows; those held out are in memory."""

    bench: PretrainBench
    spec: Pretrain
    network: torch.nn.Module
    rows: Rows
    held_out: list[Encoded]

    @property
    def width(self) -> int:
        """How many tokens a full row has."""
        length = int(self.spec.optimization.max_length)
        return self.spec.objective.width(self.bench.pieces, length)

    def setup(self) -> Setup:
        """Return what a loop runs on."""
        bench, spec = self.bench, self.spec
        tokenizer = bench.loaded.tokenizers.first
        stage = Stage(
            task=spec.task,
            network=self.network,
            losses=[LOSSES["cross_entropy"].model_validate({})],
            tokenizer=tokenizer,
            pad_id=pad_id_of(tokenizer),
            device=bench.device,
            precision=spec.runtime.precision,
            beat=bench.report.alive,
            objective=spec.objective.network(),
        )
        return Setup(
            spec=spec,
            stage=stage,
            train=self.rows,
            validation=self.held_out,
            folder=bench.assignment.folder / "checkpoints",
            checkpoints=bench.assignment.checkpoints,
        )
