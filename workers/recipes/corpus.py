"""A job's corpus: checked and counted, its vocabulary learned, its tokens on disk; each once, and kept.

What is kept is named by all that it depends on, so that a run that is resumed, or another job on the same
texts, finds it, or makes the same bytes again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.adapt.backbone import NAMES, Backbone, finish_tokenizer, special_pieces
from app.adapt.corpus import CorpusFile, HoldOut, Reading, sample, scan_corpus
from app.adapt.coverage import unknown_share
from app.adapt.piece_table import PieceTable
from app.adapt.segmenter import Segmenter
from app.adapt.token_file import TokenFile, TokenWriter
from app.adapt.tokenizers import load_tokenizer
from app.errors import InvalidData
from app.spec.pretrain import Pretrain
from workers.protocol import Assignment
from workers.recipes.cache import cached, key_of
from workers.recipes.reading import checked
from workers.training.report import Report

SCAN, COUNTS = "scan.json", "counts.json"
TRAIN, VALIDATION = "train", "validation"
LIBRARIES = ("tokenizers", "sentencepiece", "transformers")


@dataclass(frozen=True)
class Counts:
    """What a set came to in tokens."""

    tokens: int
    documents: int
    unknown: int


@dataclass(frozen=True)
class Tokens:
    """The corpus as tokens."""

    train: TokenFile
    validation: TokenFile
    counts: dict[str, Counts]


class JobCorpus:
    """The texts that a job learns from, and those that it is judged by."""

    def __init__(self, assignment: Assignment, spec: Pretrain, report: Report) -> None:
        self.cache = assignment.cache or assignment.folder / "cache"
        self.spec = spec
        self.report = report
        self._train = Reading(_files(assignment, spec, TRAIN), spec.data)
        named = _files(assignment, spec, VALIDATION)
        self._validation = Reading(named, spec.data) if named else None
        fields = spec.data.sets().values()
        assigned = [assignment.files[sides[None]] for sides in fields]
        self._key: dict[str, Any] = {
            "files": [file.sha256 for file in assigned],
            "data": spec.data.model_dump(mode="json", exclude={"train", "validation"}),
            "named": [len(self._train.files), len(named)],
        }
        folder = cached(self.cache, key_of("corpus", self._key), self._scan)
        self.scanned: dict[str, Any] = json.loads((folder / SCAN).read_bytes())

    @property
    def report_section(self) -> dict[str, Any]:
        """The data report: a section for each set that is a file."""
        found = {name: self.scanned[name] for name in (TRAIN, VALIDATION) if self.scanned[name]}
        return {"columns": {"text": self.scanned["column"]}, **found}

    @property
    def held_out(self) -> HoldOut:
        """Which documents of `data.train` are held out."""
        return HoldOut(self.spec.data.split.seed, self.scanned["below"])

    def learned(self, segmenter: Segmenter, backbone: Backbone) -> Path:
        """Return the folder of the tokenizer that is learned from the corpus.

        Raises:
            InvalidSpec: the vocabulary that is asked for is too small.
        """
        kind = backbone.architecture
        key = key_of(
            "tokenizer",
            self._key
            | {
                "segmenter": segmenter.model_dump(mode="json"),
                "architecture": kind,
                "max_length": backbone.max_length,
                "versions": {name: version(name) for name in LIBRARIES},
            },
        )

        def make(folder: Path) -> None:
            size, alive = self.scanned["characters"], self.report.alive
            texts = sample(self._train, size, self.held_out, alive)
            pieces = special_pieces(kind)
            learned = segmenter.learn(texts, pieces, NAMES[kind]["unk_token"])
            finish_tokenizer(learned, kind, backbone.max_length).save_pretrained(folder)

        folder = cached(self.cache, key, make)
        size = len(load_tokenizer(folder).get_vocab())
        self.report.log(f"The vocabulary has {size:,} pieces ({segmenter.name()})")
        return folder

    def tokens(
        self, tokenizer: Any, pieces: PieceTable, ends: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> Tokens:
        """Return the corpus as tokens, with `ends` around each document.

        Raises:
            InvalidData: nothing is left to learn from, or to judge by.
        """
        size = len(pieces.is_special_V)
        key = key_of("tokens", self._key | {"tokenizer": _described(tokenizer), "ends": ends})

        def make(folder: Path) -> None:
            self._write(folder, tokenizer, ends, size)

        folder = cached(self.cache, key, make)
        found: dict[str, Any] = json.loads((folder / COUNTS).read_bytes())
        counts = {name: Counts(**found[name]) for name in (TRAIN, VALIDATION)}
        for name in (TRAIN, VALIDATION):
            if not counts[name].tokens:
                file = (self._validation or self._train) if name == VALIDATION else self._train
                message = f"the {name} texts have not one token of this tokenizer"
                raise InvalidData(message, param=file.files[0].param, code="no_usable_rows")
        warning = unknown_share(counts[TRAIN].tokens, counts[TRAIN].unknown)
        if warning is not None:
            self.report.log(f"train: {warning}", "warning")
        return Tokens(
            TokenFile.open(folder / TRAIN, size),
            TokenFile.open(folder / VALIDATION, size),
            counts,
        )

    def _scan(self, folder: Path) -> None:
        split = self.spec.data.split if self._validation is None else None
        train, held_out = scan_corpus(self._train, split, self.report.alive)
        judged = None
        if self._validation is not None:
            judged, _ = scan_corpus(self._validation, None, self.report.alive)
        content = {
            TRAIN: train.to_dict(),
            VALIDATION: None if judged is None else judged.to_dict(),
            "characters": train.characters,
            "column": train.column,
            "below": held_out.below,
        }
        (folder / SCAN).write_text(json.dumps(content))

    def _write(
        self, folder: Path, tokenizer: Any, ends: tuple[tuple[int, ...], tuple[int, ...]], size: int
    ) -> None:
        alive = self.report.alive
        writers = {
            name: TokenWriter(folder / name, tokenizer, ends, size, alive)
            for name in (TRAIN, VALIDATION)
        }
        held_out = self.held_out
        for text in self._train:
            writers[VALIDATION if held_out.takes(text) else TRAIN].add(text)
        for text in self._validation or ():
            writers[VALIDATION].add(text)
        for writer in writers.values():
            writer.close()
        counts = {
            name: asdict(Counts(writer.num_tokens, writer.num_documents, writer.num_unknown))
            for name, writer in writers.items()
        }
        (folder / COUNTS).write_text(json.dumps(counts))


def _files(assignment: Assignment, spec: Pretrain, name: str) -> Sequence[CorpusFile]:
    """Return the files of a set, as they were uploaded."""
    found: list[CorpusFile] = []
    for field, sides in spec.data.sets().items():
        if field.partition(".")[0] == name:
            path, filename = checked(assignment, sides[None])
            found.append(CorpusFile(path, filename, f"data.{field}"))
    return found


def _described(tokenizer: Any) -> str:
    """Return what cuts texts into tokens, as a digest."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    return hashlib.sha256(content.encode()).hexdigest()
