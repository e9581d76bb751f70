"""How a recurrent student is made: a vocabulary, vectors for it, and cells with fresh weights.

Nothing here trains. All draws come from the material's seed, so that a folder can be made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from app.adapt.architectures.recurrent import EMBEDDING_STD, RecurrentConfig, RecurrentModel
from app.adapt.coverage import unknown_tokens
from app.adapt.embeddings import reduce
from app.adapt.layers.vectors import Matrix, input_embeddings, means_of_pieces
from app.adapt.recurrent import RANDOM_SIZE, TEACHER, Recurrent
from app.adapt.student import Material
from app.adapt.tokenizers import load_tokenizer
from app.adapt.vocabulary import SPECIAL, learn_vocabulary, unit_of
from app.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

ANY_LENGTH = 100_000  # tokens; a recurrent network has no positions to run out of
WITHIN_WORD = "##"  # WordPiece's mark, which its decoder leaves on a single piece
SAMPLE = 1_000  # texts that tell whether a model knows their language


@dataclass(frozen=True)
class Vectors:
    """The input embeddings (S, E) of a model, as wide as they are wanted, and its tokenizer."""

    tokenizer: Any
    matrix_SE: Matrix


def make_recurrent(student: Recurrent, folder: Path, material: Material) -> None:
    """Write config, weights and tokenizer of a new network.

    Raises:
        InvalidSpec: it cannot be made of this.
    """
    texts = list(material.texts)
    teacher = material.teacher
    if student.needs_teacher and teacher is None:
        param = "embeddings" if student.embeddings == TEACHER else "vocabulary"
        message = f"{param}: there is no teacher here; that is for jobs of kind 'distill'"
        raise InvalidSpec(message, param=param, code="no_teacher")
    vectors = _vectors(student, material)
    tokenizer = _tokenizer(student, texts, vectors, teacher)
    width = RANDOM_SIZE if vectors is None else vectors.matrix_SE.shape[1]
    config = RecurrentConfig(
        vocab_size=_size(tokenizer),
        embedding_size=student.embedding_size or width,
        hidden_size=2 * student.hidden_size,
        num_hidden_layers=student.num_layers,
        cell=student.cell,
        embedding_dropout=student.embedding_dropout,
        dropout=student.dropout,
        pooling=student.pooling,
        head_size=student.head_size,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.seed)
        network = RecurrentModel(config)
    if vectors is not None:
        rows_VE = torch.from_numpy(_rows(tokenizer, vectors))
        is_known_V = ~rows_VE.isnan().any(dim=1)
        with torch.no_grad():
            network.embeddings.words.weight[is_known_V] = rows_VE[is_known_V]
    network.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _vectors(student: Recurrent, material: Material) -> Vectors | None:
    """Return the vectors to start from, centred and scaled as random ones are, None for random ones."""
    name = student.embeddings
    if name is None:
        return None
    folder = cast("Path", material.teacher) if name == TEACHER else material.models[name]
    matrix_SD = input_embeddings(folder, name)
    width, wanted = matrix_SD.shape[1], student.embedding_size
    if wanted is not None and wanted > width:
        message = f"embedding_size: {name} has vectors of width {width}, and {wanted} is more"
        raise InvalidSpec(message, param="embedding_size", code="too_wide")
    # Published vectors differ in scale by a factor of hundreds, and cells want one.
    narrowed_SD = matrix_SD - matrix_SD.mean(axis=0)
    if wanted is not None and wanted < width:
        narrowed_SD = reduce(matrix_SD, wanted)
    narrowed_SD *= EMBEDDING_STD / float(narrowed_SD.std(dtype=np.float64))
    return Vectors(load_tokenizer(folder), narrowed_SD)


def _tokenizer(
    student: Recurrent, texts: Sequence[str], vectors: Vectors | None, teacher: Path | None
) -> Any:
    """Return the tokenizer that `vocabulary` asks for."""
    wanted = student.vocabulary
    if wanted == "auto" and vectors is not None and _knows(vectors.tokenizer, texts):
        wanted = "embeddings"
    if wanted == "embeddings":
        return _plain(cast("Vectors", vectors).tokenizer)
    if wanted == "teacher":
        return _plain(load_tokenizer(cast("Path", teacher)))
    learned = learn_vocabulary(
        texts,
        unit_of(texts) if wanted == "auto" else wanted,
        size=student.vocabulary_size,
        min_count=student.least_count,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=cast("Any", learned), model_max_length=ANY_LENGTH, **SPECIAL
    )


def _plain(tokenizer: Any) -> Any:
    """Return a tokenizer without what its class adds to it: types of tokens, limits, padding."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=ANY_LENGTH, **tokenizer.special_tokens_map
    )


def _knows(tokenizer: Any, texts: Sequence[str]) -> bool:
    """Say whether few pieces of the texts are unknown to a tokenizer."""
    found = tokenizer(list(texts[:SAMPLE]), add_special_tokens=False)["input_ids"]
    return unknown_tokens(found, tokenizer.unk_token_id) is None


def _rows(tokenizer: Any, vectors: Vectors) -> Matrix:
    """Return the vector of each entry of a vocabulary (V, E), NaN for entries that have none."""
    source, matrix_SE = vectors.tokenizer, vectors.matrix_SE
    ids_by_entry: dict[str, int] = tokenizer.get_vocab()
    rows_VE = np.full((_size(tokenizer), matrix_SE.shape[1]), np.nan, dtype=np.float32)
    if ids_by_entry == source.get_vocab():
        count = min(len(rows_VE), len(matrix_SE))
        rows_VE[:count] = matrix_SE[:count]
    else:
        ids = list(ids_by_entry.values())
        decoded = tokenizer.batch_decode([[id_] for id_ in ids], clean_up_tokenization_spaces=False)
        words = [text.removeprefix(WITHIN_WORD) for text in decoded]
        rows_VE[ids] = means_of_pieces(words, source, matrix_SE)
        for name in SPECIAL:
            own, its = getattr(tokenizer, f"{name}_id"), getattr(source, f"{name}_id")
            if own is not None:
                rows_VE[own] = np.nan if its is None else matrix_SE[its]
    rows_VE[tokenizer.pad_token_id] = 0
    return rows_VE


def _size(tokenizer: Any) -> int:
    return max(tokenizer.get_vocab().values()) + 1
