"""Corpora read a text at a time: what is held out, what is wrong, how much memory; tokens on disk."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from app.adapt.corpus import CorpusFile, HoldOut, Reading, sample, scan_corpus
from app.adapt.plugins import SEGMENTERS
from app.adapt.token_file import TokenFile, TokenWriter
from app.adapt.token_rows import Alone, Packed
from app.errors import InvalidData, InvalidSpec
from app.spec.data import Split
from app.spec.pretrain import Corpus
from workers.training.block_plan import BlockPlan, EpochPlan, Permutation

FILE = "file-" + "a" * 26


def reading(path: Path, **rules) -> Reading:
    return Reading(
        [CorpusFile(path, path.name, "data.train")], Corpus.model_validate({"train": FILE, **rules})
    )


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("share", ["auto", 0.2, 0.5])
def test_held_out_documents_are_about_as_many_as_asked(tmp_path, share):
    path = write(tmp_path / "c.txt", *(f"text number {n}" for n in range(3000)))
    scan, held_out = scan_corpus(reading(path), Split(validation=share))
    assert (scan.documents, scan.rows) == (3000, 3000)
    found = sum(held_out.takes(text) for text in reading(path))
    wanted = 300 if share == "auto" else share * 3000
    assert found == pytest.approx(wanted, rel=0.1)
    other = scan_corpus(reading(path), Split(validation=share, seed=1))[1]
    assert [held_out.takes(t) for t in reading(path)] != [other.takes(t) for t in reading(path)]


@pytest.mark.parametrize("share", ["auto", 0.01, 0.5])
def test_of_few_documents_some_are_held_out_and_some_are_not(tmp_path, share):
    path = write(tmp_path / "c.txt", "one", "two", "two", "three")
    held_out = scan_corpus(reading(path), Split(validation=share))[1]
    sides = {text: held_out.takes(text) for text in reading(path)}
    assert set(sides.values()) == {True, False}


def test_equal_texts_are_on_one_side(tmp_path):
    path = write(tmp_path / "c.txt", *(f"text {n % 40}" for n in range(400)))
    held_out = scan_corpus(reading(path), Split())[1]
    texts = list(reading(path))
    assert {t for t in texts if held_out.takes(t)}.isdisjoint(
        t for t in texts if not held_out.takes(t)
    )


@pytest.mark.parametrize("lines", [["the same"] * 5, ["only one"]])
def test_nothing_can_be_held_out_of_one_text(tmp_path, lines):
    with pytest.raises(InvalidData, match="none can be held out") as caught:
        scan_corpus(reading(write(tmp_path / "c.txt", *lines)), Split())
    assert (caught.value.error_code, caught.value.param) == ("cannot_split", "data.train")


def test_bad_rows_are_named_by_file_row_and_field(tmp_path):
    rows = [{"text": "good"}, {"text": "  "}, {"text": 3}, {"other": "x"}, {"text": "fine"}]
    path = write(tmp_path / "c.jsonl", *map(json.dumps, rows))
    with pytest.raises(InvalidData) as caught:
        scan_corpus(reading(path), None)
    assert caught.value.param == "data.train"
    assert "c.jsonl, row 2, column 'text'" in caught.value.message
    assert caught.value.details["problems"]["count"] == 3
    scan, _ = scan_corpus(reading(path, on_bad_rows="skip"), None)
    assert scan.to_dict()["rows"] == 5
    assert scan.to_dict()["usable"] == 2
    assert "row 2" in scan.to_dict()["warnings"][0]


@pytest.mark.parametrize("name", ["c.txt", "c.jsonl"])
def test_a_corpus_of_empty_lines_is_refused(tmp_path, name):
    with pytest.raises(InvalidData, match=name) as caught:
        scan_corpus(reading(write(tmp_path / name, "", "   ", "")), None)
    assert (caught.value.error_code, caught.value.param) == ("empty_file", "data.train")


def test_rows_without_one_text_are_refused_even_if_bad_ones_are_skipped(tmp_path):
    path = write(tmp_path / "c.jsonl", *[json.dumps({"text": ""})] * 3)
    with pytest.raises(InvalidData, match=r"no usable text.*row 1: the text is empty") as caught:
        scan_corpus(reading(path, on_bad_rows="skip"), None)
    assert caught.value.error_code == "no_usable_rows"


def test_the_column_of_the_texts_can_be_named(tmp_path):
    path = write(tmp_path / "c.jsonl", *(json.dumps({"said": f"t{n}"}) for n in range(3)))
    with pytest.raises(InvalidData, match=r"data\.columns") as caught:
        list(reading(path))
    assert caught.value.error_code == "column_not_found"
    assert list(reading(path, columns={"text": "said"})) == ["t0", "t1", "t2"]


def test_paragraphs_end_at_blank_lines(tmp_path):
    path = write(tmp_path / "c.txt", "a", "b", "", "c", "", "", "d", "e")
    assert list(reading(path, documents="paragraphs")) == ["a\nb", "c", "d\ne"]
    assert list(reading(path)) == list("abcde")


# --- tokens on disk ---


class Words:
    """A tokenizer that is as simple as can be: a word's token is its length."""

    unk_token_id = 9

    def __call__(self, texts: list[str], **options: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[len(word) for word in text.split()] for text in texts]}


def tokens_of(folder: Path, texts: list[str], ends=((), (99,)), size: int = 100) -> TokenFile:
    writer = TokenWriter(folder, Words(), ends, size, lambda: None)
    for text in texts:
        writer.add(text)
    writer.close()
    return TokenFile.open(folder, size)


@pytest.mark.parametrize("size", [100, 70_000])
def test_tokens_are_read_by_position(tmp_path, size):
    file = tokens_of(tmp_path / "t", ["a bb ccc", "dddd", "", "e ff"], size=size)
    assert file.tokens.dtype.itemsize == (2 if size == 100 else 4)
    assert file.tokens.tolist() == [1, 2, 3, 99, 4, 99, 1, 2, 99]
    assert file.starts.tolist() == [0, 4, 6]
    tokens, starts = file.part(3, 7)
    assert (tokens.tolist(), starts.tolist()) == ([99, 4, 99, 1], [1, 3])


def test_packed_rows_hold_every_token_once(tmp_path):
    file = tokens_of(tmp_path / "t", [f"w {'x ' * n}" for n in range(20)])
    cut = Packed(len(file), 7)
    parts = [file.part(*cut.bounds(row))[0] for row in range(len(cut))]
    assert np.concatenate(parts).tolist() == file.tokens.tolist()
    assert {len(part) for part in parts[:-1]} == {7}


def test_documents_alone_hold_every_token_once(tmp_path):
    file = tokens_of(tmp_path / "t", [f"w {'x ' * n}" for n in range(20)])
    cut = Alone(file, 7)
    parts = [file.part(*cut.bounds(row)) for row in range(len(cut))]
    assert np.concatenate([tokens for tokens, _ in parts]).tolist() == file.tokens.tolist()
    assert all(len(starts) <= 1 and starts.tolist() in ([], [0]) for _, starts in parts)
    assert [len(tokens) for tokens, _ in parts] == cut.lengths.tolist()
    assert cut.lengths.max() == 7


def peak_bytes(folder: Path, megabytes: int) -> int:
    """Return the most memory that turning so much text into tokens, and reading all of them, has taken."""
    line = "some words of a line that is read " * 3 + "\n"
    path = folder / f"{megabytes}.txt"
    with path.open("w") as file:
        for number in range(megabytes * 2**20 // (len(line) + 8)):
            file.write(f"{number:07d} {line}")
    tracemalloc.start()
    texts = reading(path)
    scan, held_out = scan_corpus(texts, Split())
    writer = TokenWriter(folder / str(megabytes), Words(), ((), (99,)), 100, lambda: None)
    for text in sample(texts, scan.characters, held_out):
        writer.add(text)
    writer.close()
    file = TokenFile.open(folder / str(megabytes), 100)
    cut = Packed(len(file), 128)
    for step in range(200):
        plan = BlockPlan(len(cut), width=128, batch_size=8, max_tokens=256, epochs=1, seed=0)
        for row in plan.batch(step % plan.steps_per_epoch):
            file.part(*cut.bounds(row))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writer.num_tokens > megabytes * 2**20 / 12
    return peak


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Six times the text, 24 MiB of it, and no more memory than for 4; most is the held-out places."""
    small, large = peak_bytes(tmp_path, 4), peak_bytes(tmp_path, 24)
    assert large < 1.2 * small
    assert large < 8 * 2**20


# --- the order of rows ---


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_an_order_has_every_row_once(count):
    order = Permutation(count, [0, 0])(np.arange(count))
    assert sorted(order.tolist()) == list(range(count))


def test_orders_differ_by_key_and_look_random():
    first, second = (Permutation(5000, key)(np.arange(5000)) for key in ([0, 0], [0, 1]))
    assert (first == second).sum() < 10
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05


def test_a_plan_goes_through_every_row_of_every_epoch():
    plan = BlockPlan(53, width=10, batch_size=8, max_tokens=35, epochs=3, seed=4)
    assert (plan.steps_per_epoch, plan.total_steps) == (7, 21)
    for epoch in range(3):
        steps = [plan.batch(epoch * 7 + at) for at in range(7)]
        seen = sorted(index for step in steps for index in step)
        assert seen == [53 * epoch + row for row in range(53)]
    parts = plan.micro_batches(9)
    assert [index for part in parts for index in part] == plan.batch(9)
    assert max(map(len, parts)) == 3
    again = BlockPlan(53, width=10, batch_size=8, max_tokens=35, epochs=3, seed=4)
    assert [again.batch(step) for step in (20, 3)] == [plan.batch(20), plan.batch(3)]


def test_rows_of_several_lengths_count_on_over_the_epochs():
    plan = EpochPlan(np.array([3, 5, 2, 9]), batch_size=2, max_tokens=100, epochs=2, seed=0)
    first, second = ({i for step in part for p in plan.micro_batches(step) for i in p}
                     for part in ((0, 1), (2, 3)))  # fmt: skip
    assert (first, second) == ({0, 1, 2, 3}, {4, 5, 6, 7})


# --- vocabularies ---


@pytest.mark.parametrize("kind", SEGMENTERS.kinds)
def test_a_vocabulary_is_the_same_in_another_process(kind, tmp_path):
    import hashlib
    import subprocess
    import sys

    script = (
        "import hashlib, sys\n"
        "from app.adapt.plugins import SEGMENTERS\n"
        f"made = SEGMENTERS[{kind!r}].model_validate({{'vocabulary_size': 400}})\n"
        "texts = [f'word{n % 37} and {n % 11}thing of the {n}' for n in range(500)]\n"
        "found = made.learn(texts, ['<pad>', '<unk>'], '<unk>').to_str()\n"
        "print(hashlib.sha256(found.encode()).hexdigest())\n"
    )
    texts = [f"word{n % 37} and {n % 11}thing of the {n}" for n in range(500)]
    segmenter = SEGMENTERS[kind].model_validate({"vocabulary_size": 400})
    made = segmenter.learn(texts, ["<pad>", "<unk>"], "<unk>")
    here = hashlib.sha256(made.to_str().encode()).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here
    assert made.token_to_id("<pad>") == 0


@pytest.mark.parametrize("kind", SEGMENTERS.kinds)
def test_a_vocabulary_that_is_too_small_is_refused(kind):
    signs = [chr(0x4E00 + number) for number in range(900)]
    texts = ["".join(signs[start : start + 30]) for start in range(0, 900, 30)]
    segmenter = SEGMENTERS[kind].model_validate({"vocabulary_size": 60})
    with pytest.raises(InvalidSpec) as caught:
        segmenter.learn(texts, ["<pad>", "<unk>"], "<unk>")
    assert caught.value.param == "tokenizer.vocabulary_size"


def test_held_out_texts_are_no_part_of_a_vocabulary(tmp_path):
    path = write(tmp_path / "c.txt", *(f"text {n}" for n in range(100)))
    texts = reading(path)
    scan, held_out = scan_corpus(texts, Split())
    kept = set(sample(texts, scan.characters, held_out))
    assert kept == {text for text in texts if not held_out.takes(text)}
    assert HoldOut(0, 0).takes("anything") is False
