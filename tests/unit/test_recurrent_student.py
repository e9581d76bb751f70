"""Recurrent students: what their vocabularies and first vectors are, and what they cannot be made of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2Model

from app.adapt.architectures.recurrent import EMBEDDING_STD
from app.adapt.layers.vectors import input_embeddings, means_of_pieces
from app.adapt.plugins import STUDENTS
from app.adapt.recurrent import Recurrent
from app.adapt.student import Material
from app.errors import InvalidSpec
from app.spec.job import parse_spec
from tests.tiny import TEXTS, make_model_folder

ROOT = Path(__file__).resolve().parents[2]
CHINESE = ("房间很大，服务不错！", "酒店太差了，没有wifi。")
WORDS = "embeddings.words.weight"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("teacher"), hidden=32)


def made(folder: Path, material: Material, **fields) -> tuple[dict, dict, object]:
    """Make a student; return its weights, its config and its tokenizer."""
    folder.mkdir(exist_ok=True)
    STUDENTS["bilstm"].model_validate({"hidden_size": 4, **fields}).make(folder, material)
    config = json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return load_file(folder / "model.safetensors"), config, tokenizer


def scaled(matrix: np.ndarray) -> torch.Tensor:
    centred = matrix - matrix.mean(axis=0)
    return torch.from_numpy(centred * (EMBEDDING_STD / centred.std()))


def test_random_vectors_of_words(tmp_path):
    texts = ["A good film, good!", "a plot, a bore"]
    weights, config, tokenizer = made(tmp_path, Material(texts, 0))
    assert (config["embedding_size"], config["hidden_size"], config["cell"]) == (300, 8, "lstm")
    assert weights[WORDS].shape == (len(tokenizer), 300)
    assert tokenizer.tokenize("a good plot, new!") == ["a", "good", "[UNK]", ",", "[UNK]", "[UNK]"]


def test_vectors_of_the_teachers_pieces(tmp_path, teacher):
    weights, config, tokenizer = made(tmp_path, Material(TEXTS, 0, teacher), embeddings="teacher")
    source = input_embeddings(teacher, "teacher")
    expected = scaled(source)
    expected[tokenizer.pad_token_id] = 0
    torch.testing.assert_close(weights[WORDS], expected)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(teacher).get_vocab()
    assert config["embedding_size"] == 32
    assert "token_type_ids" not in tokenizer("a b", "c"), "one sequence"
    assert tokenizer.model_max_length == 100_000, "no positions to run out of"


def test_words_have_the_mean_of_the_teachers_pieces(tmp_path, teacher):
    texts = ["films awful zzz"]  # only characters of these are in the teacher's vocabulary
    fields = {"embeddings": "teacher", "vocabulary": "words"}
    weights, _, tokenizer = made(tmp_path, Material(texts, 0, teacher), **fields)
    pieces = AutoTokenizer.from_pretrained(teacher)
    source = scaled(input_embeddings(teacher, "teacher"))
    for word in ("films", "awful"):
        ids = pieces(word, add_special_tokens=False)["input_ids"]
        assert len(ids) > 1
        found = weights[WORDS][tokenizer.get_vocab()[word]]
        torch.testing.assert_close(found, source[ids].mean(0), atol=1e-6, rtol=1e-5)
    for name in ("unk", "cls", "sep"):
        own, its = getattr(tokenizer, f"{name}_token_id"), getattr(pieces, f"{name}_token_id")
        torch.testing.assert_close(weights[WORDS][own], source[its], atol=1e-6, rtol=1e-5)


def test_a_word_of_unknown_pieces_stays_random(tmp_path, teacher):
    fields = {"embeddings": "teacher", "vocabulary": "words"}
    weights, _, tokenizer = made(tmp_path, Material(["好 film"], 0, teacher), **fields)
    row = weights[WORDS][tokenizer.get_vocab()["好"]]
    assert row.isfinite().all()
    assert row.any()
    again, _, _ = made(tmp_path / "b", Material(["好 film"], 1, teacher), **fields)
    assert not torch.equal(row, again[WORDS][tokenizer.get_vocab()["好"]]), "of the seed"


def test_fewer_dimensions_are_the_main_components(tmp_path, teacher):
    fields = {"embeddings": "teacher", "embedding_size": 5}
    weights, config, tokenizer = made(tmp_path, Material(TEXTS, 0, teacher), **fields)
    source = input_embeddings(teacher, "teacher").astype(np.float64)
    centred = source - source.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = np.abs(centred @ axes[:5].T)
    expected *= EMBEDDING_STD / (centred @ axes[:5].T).std()
    expected[tokenizer.pad_token_id] = 0
    assert config["embedding_size"] == 5
    np.testing.assert_allclose(weights[WORDS].abs().numpy(), expected, atol=1e-5)


def test_vectors_of_another_model_than_the_teacher(tmp_path, teacher):
    other = make_model_folder(tmp_path / "other", texts=("joy and bore",), hidden=8)
    material = Material(TEXTS, 0, teacher, {"some-model": other})
    fields = {"embeddings": "some-model", "vocabulary": "teacher"}
    weights, config, tokenizer = made(tmp_path / "made", material, **fields)
    assert config["embedding_size"] == 8
    source, pieces = scaled(input_embeddings(other, "other")), AutoTokenizer.from_pretrained(other)
    within = pieces.convert_tokens_to_ids("j")
    torch.testing.assert_close(
        weights[WORDS][tokenizer.convert_tokens_to_ids("##j")], source[within]
    )
    torch.testing.assert_close(
        weights[WORDS][tokenizer.convert_tokens_to_ids("joy")],
        source[pieces.convert_tokens_to_ids("joy")],
    )


def test_chinese_is_read_by_characters(tmp_path, teacher):
    """The teacher does not know Chinese, so `auto` does not take its pieces."""
    fields = {"embeddings": "teacher"}
    _, _, tokenizer = made(tmp_path, Material(CHINESE, 0, teacher), **fields)
    text = CHINESE[1]
    found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    assert [text[start:end] for start, end in found["offset_mapping"]] == list(text)
    assert tokenizer.unk_token_id not in found["input_ids"]


def test_of_two_readings_of_a_word_the_shorter_is_taken(tmp_path):
    """GPT-2 and its like mark the space before a word; bare words are cut to pieces there."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {piece: number for number, piece in enumerate(["f", "i", "l", "m", "Ġfilm", "Ġ"])}
    merges = [("Ġ", "f"), ("Ġf", "i"), ("Ġfi", "l"), ("Ġfil", "m")]
    vocabulary |= {"Ġf": 6, "Ġfi": 7, "Ġfil": 8}
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    matrix = np.eye(9, dtype=np.float32)
    found = means_of_pieces(["film"], PreTrainedTokenizerFast(tokenizer_object=backend), matrix)
    assert found[0].tolist() == matrix[4].tolist()


def test_input_embeddings_of_other_architectures(tmp_path):
    config = GPT2Config(vocab_size=50, n_positions=60, n_embd=8, n_layer=1, n_head=2)
    network = GPT2Model(config)
    network.save_pretrained(tmp_path)
    found = input_embeddings(tmp_path, "gpt2")
    assert np.array_equal(found, network.wte.weight.detach().numpy())


def test_a_model_without_input_embeddings_is_refused(tmp_path):
    save_file({"classifier.weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidSpec, match="bare has no input embeddings") as caught:
        input_embeddings(tmp_path, "bare")
    assert caught.value.param == "embeddings"


def test_more_dimensions_than_there_are_is_refused(tmp_path, teacher):
    with pytest.raises(InvalidSpec, match="width 32, and 33 is more") as caught:
        made(tmp_path, Material(TEXTS, 0, teacher), embeddings="teacher", embedding_size=33)
    assert caught.value.param == "embedding_size"


@pytest.mark.parametrize("field", ["embeddings", "vocabulary"])
def test_without_a_teacher_nothing_of_it_can_be_taken(tmp_path, field):
    with pytest.raises(InvalidSpec, match="no teacher") as caught:
        made(tmp_path, Material(TEXTS, 0), **{field: "teacher"})
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"vocabulary": "embeddings"}, "model", "needs a model in embeddings"),
        ({"embeddings": "teacher"}, "body", "submit a job of kind 'distill'"),
        ({"vocabulary": "teacher"}, "body", "submit a job of kind 'distill'"),
        ({"hidden_size": 0}, "model.hidden_size", "greater than or equal to 1"),
        ({"embedding_size": -1}, "model.embedding_size", "greater than or equal to 1"),
        ({"vocabulary_size": 3}, "model.vocabulary_size", "greater than or equal to"),
        ({"dropout": 1.0}, "model.dropout", "less than 1"),
        ({"pooling": "sum"}, "model.pooling", "'max', 'mean', 'last' or 'attention'"),
        ({"layers": 2}, "model.layers", "unknown field"),
    ],
)
def test_what_a_spec_cannot_ask_for(fields, param, message):
    spec = {
        "kind": "fine_tune", "model": {"kind": "bilstm", **fields}, "task": "text-classification",
        "data": {"train": "file-" + "a" * 26},
    }  # fmt: skip
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(spec)
    problems = {item["param"]: item["message"] for item in caught.value.details["problems"]}
    assert message in problems[param]


def test_the_models_that_it_reads_are_named_by_field():
    student = STUDENTS["bigru"].model_validate({"embeddings": "tencent-char-zh"})
    assert student.model_ids() == {"embeddings": "tencent-char-zh"}
    assert isinstance(student, Recurrent)
    assert not student.needs_teacher
    assert STUDENTS["bigru"].model_validate({}).model_ids() == {}
    assert STUDENTS["bigru"].model_validate({"embeddings": "teacher"}).model_ids() == {}


@pytest.mark.parametrize("kind", ["bilstm", "bigru"])
def test_its_size_is_known_before_it_is_made(tmp_path, kind):
    words = [f"w{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(95)]
    fields = {"vocabulary_size": 100, "embedding_size": 7, "hidden_size": 5, "num_layers": 3}
    student = STUDENTS[kind].model_validate(fields)
    student.make(tmp_path, Material([" ".join(words * 2)], 0))
    weights = load_file(tmp_path / "model.safetensors")
    embeddings = weights[WORDS].numel()
    total = sum(weight.numel() for weight in weights.values())
    assert student.num_parameters() == (total, embeddings)


SCRIPT = """
import sys
from pathlib import Path
from app.adapt.plugins import STUDENTS
from app.adapt.student import Material
from tests.tiny import TEXTS
folder, teacher = map(Path, sys.argv[1:])
fields = {"embeddings": "teacher", "vocabulary": "words", "embedding_size": 7, "hidden_size": 4}
STUDENTS["bigru"].model_validate(fields).make(folder, Material(TEXTS, 3, teacher))
"""


def test_every_process_makes_the_same_bytes(tmp_path, teacher):
    contents = []
    for number, seed in enumerate(("0", "1")):  # another order of hashed sets
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", SCRIPT, str(folder), str(teacher)]
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0].keys() == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert contents[0] == contents[1]
