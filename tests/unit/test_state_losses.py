"""Losses of what is inside of student and teacher, by slow references; layers, projections, schedules."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from app.adapt.layers.mapping import layer_pairs
from app.adapt.losses.attention_transfer import AttentionTransfer
from app.adapt.losses.hidden_cosine import HiddenCosine
from app.adapt.losses.hidden_mse import HiddenMse
from app.adapt.losses.kl_divergence import KlDivergence
from app.adapt.losses.minilm_relations import MinilmRelations
from app.adapt.schedule import Schedule
from app.errors import InvalidSpec
from tests.said import CLASSES, HEADS, HIDDEN, LENGTHS, ROWS, TOKENS, UNITS, Said, outputs, said

AUTO = [(0, 0), (1, 2), (2, 4)]  # a student of two blocks, a teacher of four
Vector = list[float]


def given(**sizes: int) -> Said:
    return said(torch.zeros((ROWS, CLASSES)), **sizes)


def mean(terms: list[float]) -> float:
    return sum(term * units for term, units in zip(terms, UNITS, strict=True)) / sum(UNITS)


def unit(v: Vector) -> Vector:
    return [x / math.hypot(*v) for x in v]


def squares(a: Vector, b: Vector) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def kl(p: Vector, q: Vector) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("tokens", ["all", "first"])
@pytest.mark.parametrize(
    ("layers", "pairs"), [("auto", AUTO), ("last", [(2, 4)]), ([(1, 3), (1, 1)], [(1, 3), (1, 1)])]
)
def test_hidden_mse_by_hand(normalize, tokens, layers, pairs):
    both = given()
    terms = []
    for row in range(ROWS):
        values = []
        for low, high in pairs:
            for t in range(LENGTHS[row] if tokens == "all" else 1):
                f = both.student.hidden[low][row, t].tolist()
                g = both.teacher.hidden[high][row, t].tolist()
                values.append(squares(unit(f), unit(g)) if normalize else squares(f, g) / HIDDEN)
        terms.append(sum(values) / len(values))
    loss = HiddenMse(layers=layers, normalize=normalize, tokens=tokens)
    assert both.value(loss).item() == pytest.approx(mean(terms), rel=1e-5)


def test_hidden_cosine_by_hand_and_against_normalized_distance():
    """|a - b|^2 = 2 (1 - cos) for vectors of length 1."""
    both = given()
    terms = []
    for row in range(ROWS):
        values = [
            1 - sum(x * y for x, y in zip(unit(f), unit(g), strict=True))
            for f, g in zip(
                both.student.hidden[2][row, : LENGTHS[row]].tolist(),
                both.teacher.hidden[4][row, : LENGTHS[row]].tolist(),
                strict=True,
            )
        ]
        terms.append(sum(values) / len(values))
    value = both.value(HiddenCosine())
    assert value.item() == pytest.approx(mean(terms), rel=1e-5)
    torch.testing.assert_close(2 * value, both.value(HiddenMse(layers="last", normalize=True)))


@pytest.mark.parametrize("measure", ["mse", "kl"])
@pytest.mark.parametrize("heads", [HEADS, 4])
def test_attention_transfer_by_hand(measure, heads):
    both = given(heads=heads)
    terms = []
    for row in range(ROWS):
        values, count = [], LENGTHS[row]
        for low, high in [(1, 2), (2, 4)]:
            f, g = both.student.attentions[low - 1][row], both.teacher.attentions[high - 1][row]
            if heads != HEADS:
                f, g = f.mean(0, keepdim=True), g.mean(0, keepdim=True)
            for p, q in zip(f[:, :count].flatten(0, 1), g[:, :count].flatten(0, 1), strict=True):
                ours, theirs = p[:count].tolist(), q[:count].tolist()
                values.append(
                    squares(ours, theirs) / count if measure == "mse" else kl(theirs, ours)
                )
        terms.append(sum(values) / len(values))
    value = both.value(AttentionTransfer(measure=measure))
    assert value.item() == pytest.approx(mean(terms), rel=1e-5)


def test_attention_of_a_decoder_has_zeros_that_cost_nothing():
    both = given()
    past = torch.ones((TOKENS, TOKENS)).tril().bool()

    def masked(said_: Said) -> Said:
        def past_only(layers: tuple) -> tuple:
            return tuple(layer.where(past, 0.0) for layer in layers)

        sides = {
            side: replace(value, attentions=past_only(value.attentions))
            for side, value in (("student", said_.student), ("teacher", said_.teacher))
        }
        return replace(said_, **sides)

    both = masked(both)
    for layer in both.student.attentions:
        layer.requires_grad_()
    value = both.value(AttentionTransfer(measure="kl"))
    value.backward()
    assert math.isfinite(value.item())
    assert all(layer.grad.isfinite().all() for layer in both.student.attentions)


def relation(vectors: list[Vector]) -> list[Vector]:
    size = math.sqrt(len(vectors[0]))
    rows = []
    for a in vectors:
        weights = [math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / size) for b in vectors]
        rows.append([w / sum(weights) for w in weights])
    return rows


@pytest.mark.parametrize(("relation_heads", "parts"), [("auto", 2), (4, 4)])
@pytest.mark.parametrize("hidden", [HIDDEN, 24])
def test_minilm_relations_by_hand(relation_heads, parts, hidden):
    """auto: the narrower, of 16, keeps 8 numbers in each of two parts."""
    both = given(hidden=hidden)
    terms = []
    for row in range(ROWS):
        total, count = 0.0, LENGTHS[row]
        for which in range(3):
            for part in range(parts):
                p, q = (
                    relation(states[which][row, :count].chunk(parts, dim=-1)[part].tolist())
                    for states in (both.student.relations[-1], both.teacher.relations[-1])
                )
                total += sum(map(kl, q, p)) / (parts * count)
        terms.append(total)
    loss = MinilmRelations(relation_heads=relation_heads)
    assert both.value(loss).item() == pytest.approx(mean(terms), rel=1e-4)
    assert loss.prepare(both.student, both.teacher) is None


def test_minilm_relations_are_a_mean_over_layers():
    both = given()
    whole = both.value(MinilmRelations(layers=[(1, 2), (2, 3)]))
    parts = [both.value(MinilmRelations(layers=[pair])) for pair in ((1, 2), (2, 3))]
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_parts_that_do_not_divide_the_widths_are_refused():
    both = given(hidden=24)
    with pytest.raises(InvalidSpec, match="must divide 8") as caught:
        MinilmRelations(relation_heads=3).prepare(both.student, both.teacher)
    assert caught.value.param == "relation_heads"


# Layers.


@pytest.mark.parametrize(
    ("student", "teacher", "first", "expected"),
    [
        (6, 12, 1, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]),
        (4, 12, 0, [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)]),
        (3, 4, 1, [(1, 1), (2, 3), (3, 4)]),
        (2, 2, 0, [(0, 0), (1, 1), (2, 2)]),
        (4, 2, 1, [(1, 1), (2, 1), (3, 2), (4, 2)]),
        (0, 12, 0, [(0, 0)]),
    ],
)
def test_layers_are_spread_evenly(student, teacher, first, expected):
    assert layer_pairs("auto", student, teacher, first=first) == expected


@pytest.mark.parametrize("pair", [(3, 4), (2, 5), (0, 1)])
@pytest.mark.parametrize("kind", [HiddenMse, HiddenCosine, AttentionTransfer, MinilmRelations])
def test_layers_that_are_not_there_are_refused(kind, pair):
    both, loss = given(), kind(layers=[pair])
    first = 0 if loss.needs_hidden else 1
    if pair == (0, 1) and first == 0:
        assert loss.prepare(both.student, both.teacher) is None
        return
    with pytest.raises(InvalidSpec, match=f"{first} to 2, the teacher {first} to 4") as caught:
        loss.prepare(both.student, both.teacher)
    assert caught.value.param == "layers"


@pytest.mark.parametrize("kind", [HiddenMse, HiddenCosine, AttentionTransfer, MinilmRelations])
def test_other_tokens_are_refused(kind):
    both = given()
    longer = outputs(torch.zeros((ROWS, CLASSES)), layers=4, seed=2)
    shorter = replace(
        longer,
        hidden=tuple(state[:, 1:] for state in longer.hidden),
        attentions=tuple(layer[:, :, 1:, 1:] for layer in longer.attentions),
        relations=tuple(tuple(part[:, 1:] for part in block) for block in longer.relations),
    )
    with pytest.raises(ValueError, match="one tokenizer"):
        replace(both, teacher=shorter).value(kind())


# Projections.


@pytest.mark.parametrize(
    "loss", [HiddenMse(), HiddenMse(normalize=True), HiddenCosine(layers="auto")]
)
def test_states_of_two_widths_are_brought_together(loss):
    both = given(hidden=24)
    with pytest.raises(ValueError, match="states of 16 and 24 numbers"):
        both.value(loss)
    torch.manual_seed(0)
    learned = loss.prepare(both.student, both.teacher)
    assert {name: tuple(p.shape) for name, p in learned.named_parameters()} == {
        f"maps.{layer}.weight": (24, HIDDEN) for layer, _ in AUTO
    }
    for state in both.student.hidden:
        state.requires_grad_()
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = replace(both, student=learned(both.student)).value(loss)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]
    assert all(state.grad.abs().sum() > 0 for state in both.student.hidden)


def test_only_what_differs_is_projected():
    both = given(hidden=HIDDEN)
    assert HiddenMse().prepare(both.student, both.teacher) is None
    wide = given(hidden=24).teacher
    mixed = replace(both.teacher, hidden=(*both.teacher.hidden[:4], wide.hidden[4]))
    learned = HiddenMse().prepare(both.student, mixed)
    assert list(learned.maps) == ["2"]
    seen = learned(both.student)
    assert [state.shape[-1] for state in seen.hidden] == [HIDDEN, HIDDEN, 24]
    assert seen.hidden[0] is both.student.hidden[0]
    assert replace(both, student=seen, teacher=mixed).value(HiddenMse()).isfinite()


# Schedules.


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [4.0, 3.25, 2.5, 1.0]),
        ("cosine", [4.0, 4 - 1.5 * (1 - math.sqrt(0.5)), 2.5, 1.0]),
    ],
)
def test_a_schedule_goes_from_start_to_end(shape, expected):
    schedule = Schedule(start=4, end=1, shape=shape)
    assert [schedule.at(f) for f in (0, 0.25, 0.5, 1)] == pytest.approx(expected)


def test_a_loss_is_a_loss_of_plain_numbers_at_a_fraction():
    schedule = {"start": 4, "end": 1}
    loss = KlDivergence.model_validate(
        {"weight": {"start": 1, "end": 0, "shape": "cosine"}, "temperature": schedule}
    )
    assert KlDivergence.model_validate_json(loss.model_dump_json()) == loss
    assert loss.at(0.5) == KlDivergence(weight=0.5, temperature=2.5)
    both = given()
    assert both.value(loss.at(0.5)) == both.value(KlDivergence(temperature=2.5))
    with pytest.raises(TypeError, match="at a fraction"):
        both.value(loss)
    plain = KlDivergence(temperature=3)
    assert plain.at(0.5) is plain


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("weight", -1, ("weight", "number")),
        ("temperature", 0, ("temperature", "number")),
        ("weight", {"start": -1, "end": 1}, ("weight", "schedule", "start")),
        ("temperature", {"start": 1, "end": 0}, ("temperature", "schedule", "end")),
        ("temperature", {"start": 1}, ("temperature", "schedule", "end")),
        ("weight", {"start": 1, "end": 0, "shape": "step"}, ("weight", "schedule", "shape")),
    ],
)
def test_numbers_and_schedules_out_of_range_are_refused_once(field, value, path):
    with pytest.raises(ValidationError) as caught:
        KlDivergence.model_validate({field: value})
    (problem,) = caught.value.errors()
    assert problem["loc"] == path
