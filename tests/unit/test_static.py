"""The student that is a table of word vectors: how it is made, what it says, who loads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer

from app.adapt.architectures.static import StaticForSequenceClassification
from app.adapt.embeddings import reduce
from app.adapt.student import Material
from app.adapt.students.static import Static
from app.adapt.tasks.fill_mask.config import FillMask
from app.adapt.tasks.sentence_similarity.config import SentenceSimilarity
from app.adapt.tasks.text_classification.config import TextClassification
from app.errors import InvalidSpec
from app.store.weights import check_model_folder
from tests.tiny import TEXTS, make_model_folder


@pytest.fixture
def base(tmp_path) -> Path:
    return make_model_folder(tmp_path / "teacher")


def make(folder: Path, teacher: Path, texts: Any = TEXTS, **fields: Any) -> Path:
    folder.mkdir()
    Static.model_validate(fields).make(folder, Material(texts, seed=0, teacher=teacher))
    check_model_folder(folder, "static")
    return folder


def table_of(folder: Path) -> np.ndarray:
    return AutoModel.from_pretrained(folder).embedding.weight.detach().numpy()


def spoken_ids(tokenizer: Any) -> list[int]:
    return [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]


def test_the_table_is_what_the_teacher_says_of_each_entry(base, tmp_path):
    """Against the definition, one entry at a time, and scikit-learn's principal components."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    network: Any = AutoModel.from_pretrained(base).eval()
    ids = spoken_ids(tokenizer)
    with torch.inference_mode():
        vectors = [
            network(torch.tensor([[tokenizer.cls_token_id, i, tokenizer.sep_token_id]]))
            .last_hidden_state[0]
            .mean(0)
            for i in ids
        ]
    components = PCA(7, svd_solver="full").fit_transform(np.stack(vectors))[:, 2:]
    harmonic = sum(1 / (rank + 2) for rank in range(len(ids)))
    weights = [1e-3 / (1e-3 + 1 / (rank + 2) / harmonic) for rank in range(len(ids))]
    expected = components * np.array(weights)[:, None]
    fields = {"size": 5, "remove_components": 2, "sif_coefficient": 1e-3}
    table = table_of(make(tmp_path / "table", base, **fields))
    # A component's sign is free.
    signs = np.sign((expected * table[ids]).sum(axis=0))
    np.testing.assert_allclose(table[ids] * signs, expected, atol=1e-5)
    assert not table[tokenizer.all_special_ids].any()


def test_entries_in_reserve_take_no_part(base, tmp_path):
    plain = table_of(make(tmp_path / "plain", base))
    path = base / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab: dict[str, int] = tokenizer["model"]["vocab"]
    last = max(vocab, key=lambda token: vocab[token])
    vocab["[unused7]"] = vocab.pop(last)
    path.write_text(json.dumps(tokenizer))
    table = table_of(make(tmp_path / "table", base))
    assert not table[-1].any()
    assert plain[-1].any()


def test_tokens_that_the_texts_are_full_of_count_less(base, tmp_path):
    fields = {"weighting": "texts", "sif_coefficient": 1e-3, "remove_components": 0}
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    word, other = (tokenizer.convert_tokens_to_ids(token) for token in ("three", "two"))
    norms = []
    for name, texts in (("few", ["two"]), ("many", ["three three three two"] * 20_000)):
        table = table_of(make(tmp_path / name, base, iter(texts), **fields))
        norms.append((np.linalg.norm(table[word]), np.linalg.norm(table[other])))
    assert norms[1][0] < norms[0][0]
    assert norms[1][0] / norms[0][0] < norms[1][1] / norms[0][1]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"size": 25}, "size"), ({"size": 0}, "size"), ({"remove_components": 32}, "remove_components")],
)  # fmt: skip
def test_a_size_that_the_teacher_does_not_have_is_refused(fields, param, base, tmp_path):
    with pytest.raises(InvalidSpec, match="32") as caught:
        make(tmp_path / "table", base, **fields)
    assert caught.value.param == param


def similarity(folder: Path, tmp_path: Path, texts: list[str]) -> tuple[np.ndarray, Path]:
    """Return the vectors of texts as the task gives them, and the folder that it saves."""
    task = SentenceSimilarity(form="pairs")
    half = task.network()
    network = half.load(task, folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    encoded = task.encode(tokenizer, [task.parse_input(text, 0) for text in texts], 32)
    batch = half.collate(task, encoded, 0)
    with torch.inference_mode():
        vectors = np.stack(half.scores(task, half.forward(network, batch), batch))[:, 0]
    half.save(network, tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return vectors, tmp_path / "saved"


def test_a_text_is_the_mean_of_its_words(base, tmp_path):
    folder = make(tmp_path / "table", base)
    vectors, _ = similarity(folder, tmp_path, ["a dull plot", "good"])
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    table = table_of(folder)
    for vector, text in zip(vectors, ("a dull plot", "good"), strict=True):
        mean = table[tokenizer(text, add_special_tokens=False)["input_ids"]].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_sentence_transformers_loads_the_table_and_says_the_same(base, tmp_path):
    from sentence_transformers import SentenceTransformer

    texts = ["a dull plot", "where is my transfer?"]
    vectors, saved = similarity(make(tmp_path / "table", base), tmp_path, texts)
    theirs = SentenceTransformer(str(saved), device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)


def test_a_table_is_tuned_as_a_classifier(base, tmp_path):
    folder = make(tmp_path / "table", base)
    task = TextClassification(problem="single_label", labels=["bad", "good"], pair=False)
    half = task.network()
    torch.manual_seed(0)
    network: Any = half.load(task, folder)
    assert isinstance(network, StaticForSequenceClassification)
    assert {name.partition(".")[0] for name in network.attune_new_parameters} == {"classifier"}
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    examples = [task.parse_input(text, 0) for text in ("good old plot", "a dull plot and bad")]
    batch = half.collate(task, task.encode(tokenizer, examples, 32), 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = functional.cross_entropy(half.forward(network, batch).logits, torch.tensor([1, 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2), abs=0.2)
    assert losses[-1] < 0.1
    silent = network.static.embedding.weight[tokenizer.all_special_ids]
    assert not silent.any(), "what says nothing stays so"


def test_a_task_that_a_table_cannot_do_says_so(base, tmp_path):
    folder = make(tmp_path / "table", base)
    task = FillMask()
    with pytest.raises(InvalidSpec, match="attune-static"):
        task.network().load(task, folder)


# --- narrower vectors ---


def test_components_are_those_of_scikit_learn():
    matrix = np.random.default_rng(0).normal(size=(50, 12)) @ np.diag(np.arange(1, 13))
    expected = PCA(12, svd_solver="full").fit_transform(matrix)
    found = reduce(matrix.astype(np.float32), 4, skip=1)
    assert found.dtype == np.float32
    signs = np.sign((found * expected[:, 1:5]).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected[:, 1:5], rtol=1e-3, atol=1e-4)


def test_a_component_s_sign_does_not_depend_on_that_of_the_data():
    matrix = np.random.default_rng(0).normal(size=(50, 6))
    np.testing.assert_allclose(reduce(-matrix, 3), -reduce(matrix, 3), atol=1e-5)


@pytest.mark.parametrize(("size", "skip"), [(0, 0), (7, 0), (6, 1), (1, -1)])
def test_more_components_than_there_are_is_an_error(size, skip):
    with pytest.raises(ValueError, match="components"):
        reduce(np.zeros((4, 6)), size, skip=skip)


def test_the_config_of_a_table_is_known_to_transformers(base, tmp_path):
    config = AutoConfig.from_pretrained(make(tmp_path / "table", base))
    assert config.model_type == "attune-static"
    assert config.hidden_size == 24  # of the teacher's 32 components, the first 8 are left out
