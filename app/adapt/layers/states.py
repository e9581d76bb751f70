"""What losses take of the inside of two networks, layer by layer.

Legend: B rows, S texts of a row, D numbers of a vector, N sequences, T tokens, H hidden, A heads.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from app.adapt.layers.mapping import layer_pairs
from app.adapt.loss import Layers
from app.adapt.outputs import Outputs, Relation


def states_of(outputs: Outputs) -> tuple[Tensor, ...]:
    """Return the hidden states, which a loss that reads them is given."""
    if outputs.hidden is None:
        message = "hidden states are needed"
        raise AssertionError(message)
    return outputs.hidden


def attentions_of(outputs: Outputs) -> tuple[Tensor, ...]:
    """Return the attention of each block, which a loss that reads it is given."""
    if outputs.attentions is None:
        message = "attentions are needed"
        raise AssertionError(message)
    return outputs.attentions


def relations_of(outputs: Outputs) -> tuple[Relation, ...]:
    """Return queries, keys and values of each block, which a loss that reads them is given."""
    if outputs.relations is None:
        message = "queries, keys and values are needed"
        raise AssertionError(message)
    return outputs.relations


def paired_states(
    layers: Layers, student: Outputs, teacher: Outputs
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the states (N, T, H) of mapped layers; the teacher's pass no gradient on.

    Raises:
        ValueError: they are not of the same tokens, or not of one width.
    """
    ours, theirs = states_of(student), states_of(teacher)
    for low, high in layer_pairs(layers, len(ours) - 1, len(theirs) - 1, first=0):
        student_NTH, teacher_NTH = ours[low].float(), theirs[high].detach().float()
        _same_tokens(student_NTH, teacher_NTH)
        if student_NTH.shape[-1] != teacher_NTH.shape[-1]:
            message = f"states of {student_NTH.shape[-1]} and {teacher_NTH.shape[-1]} numbers"
            raise ValueError(message)
        yield student_NTH, teacher_NTH


def paired_attentions(
    layers: Layers, student: Outputs, teacher: Outputs
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the attention (N, A, T, T) of mapped blocks; where heads differ in number, their mean.

    Raises:
        ValueError: it is not of the same tokens.
    """
    ours, theirs = attentions_of(student), attentions_of(teacher)
    for low, high in layer_pairs(layers, len(ours), len(theirs), first=1):
        student_NATT, teacher_NATT = ours[low - 1].float(), theirs[high - 1].detach().float()
        if student_NATT.shape[1] != teacher_NATT.shape[1]:
            student_NATT = student_NATT.mean(1, keepdim=True)
            teacher_NATT = teacher_NATT.mean(1, keepdim=True)
        _same_tokens(student_NATT[:, 0], teacher_NATT[:, 0])
        yield student_NATT, teacher_NATT


def paired_relations(
    layers: Layers, student: Outputs, teacher: Outputs
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield queries, then keys, then values (N, T, H) of mapped blocks, widths as they are.

    Raises:
        ValueError: they are not of the same tokens.
    """
    ours, theirs = relations_of(student), relations_of(teacher)
    for low, high in layer_pairs(layers, len(ours), len(theirs), first=1):
        for student_NTH, teacher_NTH in zip(ours[low - 1], theirs[high - 1], strict=True):
            _same_tokens(student_NTH, teacher_NTH)
            yield student_NTH.float(), teacher_NTH.detach().float()


def paired_vectors(student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors (B, S, D) and which texts there are (B, S): one that a row has not is all zeros.

    Raises:
        ValueError: the answers are no vectors, or not of the same texts.
    """
    ours_BSD, theirs_BSD = student.logits.float(), teacher.logits.detach().float()
    if student.answer != "vector" or ours_BSD.shape != theirs_BSD.shape:
        message = (
            "it compares the vectors of texts (B, S, D), and the answers are of kind "
            f"{student.answer}: student {tuple(ours_BSD.shape)}, teacher {tuple(theirs_BSD.shape)}"
        )
        raise ValueError(message)
    return ours_BSD, theirs_BSD, (theirs_BSD != 0).any(-1)


def _same_tokens(student_NT: Tensor, teacher_NT: Tensor) -> None:
    ours, theirs = tuple(student_NT.shape[:2]), tuple(teacher_NT.shape[:2])
    if ours != theirs:
        message = (
            f"the student reads {ours} tokens, the teacher {theirs}: it compares token by token, so "
            "both need one tokenizer"
        )
        raise ValueError(message)
