"""Sentence embeddings: rows in every form, figures of the libraries, folders that others load."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from app.adapt.outputs import Encoded
from app.adapt.reader import Problems, Row
from app.adapt.tasks.sentence_similarity.config import SentenceSimilarity
from app.errors import InvalidData, InvalidRequest
from tests.tiny import make_model_folder


def parse(*values: dict[str, Any]) -> tuple[list[Any], Problems]:
    problems = Problems("rows.jsonl")
    columns = SentenceSimilarity().resolve_columns(list(values[0]), {}, "rows.jsonl")
    rows = [Row(number, value) for number, value in enumerate(values, 1)]
    return SentenceSimilarity().parse(rows, columns, problems), problems


@pytest.mark.parametrize(
    ("rows", "form"),
    [
        ([{"sentence1": "a", "sentence2": "b", "score": s} for s in (0, "2.5")], "scored"),
        ([{"anchor": a, "positive": "x"} for a in "abc"], "pairs"),
        ([{"query": "a", "positive": "b", "negative": "c"}], "pairs"),
        ([{"text": t, "label": label} for t, label in (("a", 1), ("b", 1), ("c", 2))], "labelled"),
    ],
)
def test_every_form_is_read(rows, form):
    examples, problems = parse(*rows)
    assert len(problems) == 0
    assert SentenceSimilarity().fit(examples, "rows").form == form


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ({"sentence1": "a", "sentence2": "", "score": 1}, "empty_text", "sentence2"),
        ({"sentence1": "a", "sentence2": "b", "score": "high"}, "not_a_number", "score"),
        ({"anchor": None, "positive": "b"}, "empty_text", "anchor"),
        ({"text": "a", "label": " "}, "empty_label", "label"),
        ({"text": "a", "label": ["x"]}, "wrong_type", "label"),
        ({"sentence1": "a", "sentence2": "b", "score": True}, "not_a_number", "score"),
        ({"anchor": "a", "positive": 3}, "wrong_type", "positive"),
        ({"anchor": "a", "positive": "b", "negative": "b "}, "same_texts", "negative"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_row_and_column(row, code, column):
    examples, problems = parse(row)
    assert examples == []
    (problem,) = problems.first
    assert (problem.row, problem.code, problem.column) == (1, code, column)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{"sentence1": "a", "sentence2": "b", "score": 1}] * 3, "one_score"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], "labels_do_not_pair"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], "one_label"),
        ([{"anchor": "a", "positive": "x"}, {"anchor": "a", "positive": "y"}], "too_few_pairs"),
    ],
)
def test_data_that_teaches_no_likeness_is_refused(rows, code):
    examples, _ = parse(*rows)
    with pytest.raises(InvalidData) as caught:
        SentenceSimilarity().fit(examples, "rows")
    assert caught.value.error_code == code


def judged(form: str, rows: list[tuple[list[list[float]], Any, list[str]]]) -> dict[str, float]:
    metrics = SentenceSimilarity.model_validate({"form": form}).metrics()
    vectors = [np.array(group, dtype=np.float32) for group, _, _ in rows]
    items = [
        Encoded(
            [1], target=target, example=at, others=([1],) * (len(group) - 1), extra={"texts": texts}
        )
        for at, (group, target, texts) in enumerate(rows)
    ]
    metrics.add(vectors, items)
    return metrics.compute()


def test_scores_are_compared_by_rank():
    angles, scores = [0.0, 0.3, 0.9, 1.4], [1.0, 0.6, 0.5, 0.0]
    rows = [
        ([[1, 0], [np.cos(angle), np.sin(angle)]], score, ["a", "b"])
        for angle, score in zip(angles, scores, strict=True)
    ]
    assert judged("scored", rows)["spearman"] == pytest.approx(1.0)


def test_a_positive_that_ranks_second_counts_half():
    rows = [
        ([[1.0, 0.0], [0.8, 0.6]], "p0", ["a0", "p0"]),
        ([[0.0, 1.0], [1.0, 0.1]], "p1", ["a1", "p1"]),
    ]
    found = judged("pairs", rows)  # each anchor lies nearer to the other's positive
    assert found["mrr_at_10"] == pytest.approx(0.5)
    assert found["accuracy_at_1"] == 0.0
    assert found["ndcg_at_10"] == pytest.approx(1 / np.log2(3))


def test_labelled_texts_look_for_their_like():
    rows = [
        ([vector], label, [""])
        for vector, label in (
            ([1.0, 0.0], "x"), ([0.9, 0.1], "x"), ([0.0, 1.0], "y"), ([0.1, 0.9], "y"),
        )
    ]  # fmt: skip
    assert judged("labelled", rows)["accuracy_at_1"] == 1.0


@pytest.mark.parametrize("poolings", [["mean"], ["cls"], ["mean", "max"]])
def test_sentence_transformers_loads_the_folder_and_says_the_same(poolings, tmp_path):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    base = make_model_folder(tmp_path / "base")
    task = SentenceSimilarity(form="pairs", poolings=poolings)
    half = task.network()
    network = half.load(task, base).eval()
    folder = tmp_path / "saved"
    half.save(network, folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True)
    tokenizer.save_pretrained(folder)
    texts = ["a dull plot", "where is my transfer"]
    encoded = task.encode(tokenizer, [task.parse_input(text, 0) for text in texts], 32)
    batch = half.collate(task, encoded, 0)
    with torch.inference_mode():
        ours = np.stack(half.scores(task, half.forward(network, batch), batch))[:, 0]
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "value",
    ["", 3, [], {"text": ""}, {"sentence1": "a"}, {"source_sentence": "a", "sentences": []},
     {"source_sentence": "a", "sentences": ["b", 4]}],
)  # fmt: skip
def test_an_input_that_is_none_is_refused_by_its_place(value):
    with pytest.raises(InvalidRequest) as caught:
        SentenceSimilarity().parse_input(value, 2)
    assert str(caught.value.param).startswith("inputs.2")
