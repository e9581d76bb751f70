"""Summarization and translation: rows in every form, figures of the libraries, answers as asked for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.adapt.dataset import Dataset, read_dataset
from app.adapt.generation import GenerationParameters
from app.adapt.outputs import Encoded, Generated
from app.adapt.parallel import join, read_set
from app.adapt.reader import Problems, Row
from app.adapt.tasks.summarization.config import Summarization
from app.adapt.tasks.translation.config import Translation
from app.adapt.tokenizers import load_tokenizer
from app.errors import InvalidData, InvalidRequest


def parse(task: Any, *values: dict[str, Any]) -> tuple[list[Any], Problems]:
    problems = Problems("rows.jsonl")
    columns = task.resolve_columns(list(values[0]), {}, "rows.jsonl")
    rows = [Row(number, value) for number, value in enumerate(values, 1)]
    return task.parse(rows, columns, problems), problems


def judge(task: Any, *pairs: tuple[str, tuple[str, ...]]) -> dict[str, float]:
    metrics = task.metrics()
    items = [Encoded(input_ids=[1], extra={"references": references}) for _, references in pairs]
    metrics.add_generated([[Generated(text, [], "stop")] for text, _ in pairs], items)
    return metrics.compute()


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (Translation(), {"source": "two dogs", "target": "zwei hunde"}),
        (Translation(), {"translation": {"en": "two dogs", "de": "zwei hunde"}}),
        (
            Translation(source_language="en_XX", target_language="de_DE"),
            {"de": "zwei hunde", "en": "two dogs"},
        ),
        (
            Translation(source_language="en", target_language="de"),
            {"translation": {"de": "zwei hunde", "en": "two dogs"}},
        ),
        (Translation(), {"src": ["two", "dogs"], "tgt": ["zwei hunde", "hunde, zwei"]}),
    ],
)
def test_every_form_of_a_pair_is_read(task, row):
    (example,), problems = parse(task, row)
    assert example.inputs == {"source": "two dogs"}
    assert example.target[0] == "zwei hunde"
    assert len(problems) == 0


def test_a_side_that_is_missing_is_named_with_its_row_and_column():
    examples, problems = parse(
        Summarization(),
        {"document": "long", "summary": "short"},
        {"document": "", "summary": "short"},
        {"document": "long", "summary": None},
        {"document": 7, "summary": "short"},
    )
    assert [example.row for example in examples] == [1]
    found = [(problem.row, problem.column, problem.code) for problem in problems.first]
    assert found == [
        (2, "document", "empty_text"),
        (3, "summary", "empty_text"),
        (4, "document", "wrong_type"),
    ]


def test_parallel_files_are_matched_by_line(tmp_path):
    (tmp_path / "a.en").write_text("one\n\nthree\nfour\n")
    (tmp_path / "b.de").write_text("eins\nzwei\ndrei\nvier\n")
    files = {
        role: (tmp_path / name, f"{name}.txt")
        for role, name in (("source", "a.en"), ("target", "b.de"))
    }
    joined = read_set({**files}, "data.train", max_rows=100)
    assert [(row.number, row.values) for row in joined.rows] == [
        (1, {"source": "one", "target": "eins"}),
        (3, {"source": "three", "target": "drei"}),
        (4, {"source": "four", "target": "vier"}),
    ]
    (problem,) = joined.problems.first
    assert (problem.row, problem.column, problem.code) == (2, "source", "missing_side")


def test_a_table_is_no_side_of_parallel_files(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    table = read_dataset(path, "table.csv", max_rows=10)
    other = Dataset("x.txt", [Row(1, {"text": "x"})], ["text"], Problems("x.txt"))
    with pytest.raises(InvalidData) as caught:
        join({"source": table, "target": other}, "data.train")
    assert caught.value.error_code == "not_parallel"
    assert caught.value.param == "data.train.source"


def test_bleu_and_chrf_are_sacrebleus():
    from sacrebleu import corpus_bleu, corpus_chrf

    written = ["the cat sat on the mat today", "a dog ran over the green field"]
    references = ["the cat is on the mat today", "a dog ran over a green field"]
    pairs = [(text, (reference,)) for text, reference in zip(written, references, strict=True)]
    figures = judge(Translation(segmentation="13a"), *pairs)
    assert figures["bleu"] == pytest.approx(corpus_bleu(written, [references]).score)
    assert figures["chrf"] == pytest.approx(corpus_chrf(written, [references]).score)


def test_rouge_is_that_of_rouge_score_and_the_best_reference_counts():
    from rouge_score.rouge_scorer import RougeScorer

    text, good, bad = "the dogs were running home", "a dog runs home", "nothing like it"
    expected = RougeScorer(["rougeL"], use_stemmer=True).score(good, text)["rougeL"].fmeasure
    assert judge(Summarization(), (text, (bad, good)))["rougeL"] == pytest.approx(expected)


def test_rouge_of_chinese_is_by_characters_and_of_german_by_whole_words():
    assert judge(Summarization(), ("今天很好", ("今天不好",)))["rouge1"] == pytest.approx(0.75)
    assert judge(Summarization(), ("für", ("fur",)))["rouge1"] == 0.0
    assert judge(Summarization(), ("für alle", ("FÜR ALLE!",)))["rouge2"] == 1.0


@pytest.mark.parametrize(
    ("targets", "expected"), [(["ein haus"], "13a"), (["今天很好"], "zh"), (["きょうは"], "char")]
)
def test_bleu_cuts_words_as_the_script_asks(targets, expected):
    examples, _ = parse(Translation(), *({"source": "x", "target": text} for text in targets))
    assert Translation().fit(examples, "rows").segmentation == expected


def test_what_a_call_does_not_say_is_as_the_task_was_configured():
    task = Summarization(decoding=GenerationParameters(num_beams=3, max_new_tokens=20))
    parameters = task.parameters.model_validate(task.default_parameters() | {"max_new_tokens": 5})
    assert parameters == GenerationParameters(num_beams=3, max_new_tokens=5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": 0.5}, "do_sample"),
        ({"num_return_sequences": 2}, "num_beams"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        GenerationParameters.model_validate(given)


@pytest.mark.parametrize("value", ["", "  ", 7, None, {"target": "x"}, {"document": ""}, ["a"]])
def test_an_input_that_is_no_text_is_refused_by_its_place(value):
    with pytest.raises(InvalidRequest) as caught:
        Summarization().parse_input(value, 3)
    assert caught.value.param == "inputs.3"


def test_a_folder_with_a_sentencepiece_file_alone_has_a_tokenizer(tmp_path):
    """As T5 1.1 and mT5 lie on the Hub: no tokenizer.json, which is made of `spiece.model` on loading."""
    from sentencepiece import SentencePieceTrainer

    texts = [f"sentence number {n} is about {'abc'[n % 3] * 3}" for n in range(300)]
    SentencePieceTrainer.Train(
        sentence_iterator=iter(texts), model_prefix=str(tmp_path / "spiece"), vocab_size=60,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (tmp_path / "config.json").write_text('{"model_type": "t5", "d_model": 8}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer("sentence number 7")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "sentence number 7"
