"""The house rules of AGENTS.md that a program can check. Import directions are import-linter's."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
CONTROL_PLANE = "control-plane-no-torch"


def sources(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- size and names ---


def test_no_file_over_the_ceiling():
    lengths = {
        name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources("app", "workers", "migrations", "tests")
    }
    assert {p: n for p, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_over_the_ceiling():
    long = {}
    for path in sources("app", "workers", "tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long[f"{name(path)}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_no_module_without_a_subject():
    paths = sources("app", "workers", "migrations", "tests")
    assert [name(p) for p in paths if p.stem in BANNED_NAMES] == []
    assert [name(p) for p in paths if BANNED_NAMES & set(p.relative_to(ROOT).parts[:-1])] == []


def test_a_file_opens_by_saying_what_it_owns():
    silent = []
    for path in sources("app", "workers"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if len(tree.body) > 2 and ast.get_docstring(tree) is None:
            silent.append(name(path))
    assert silent == []


# --- imports ---


def test_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def torch_free_modules() -> list[str]:
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    (patterns,) = [c["source_modules"] for c in contracts if c["id"] == CONTROL_PLANE]
    # A pattern stands for the module itself and all below it; `*` is one part of the name.
    any_part = re.escape("*")
    alternatives = [re.escape(p).replace(any_part, "[^.]+") + r"(\..+)?" for p in patterns]
    matches = re.compile("|".join(alternatives)).fullmatch
    modules = (
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources("app")
    )
    return [m for m in modules if matches(m) and not m.endswith(".__main__")]


def test_control_plane_imports_without_torch():
    """What the contract cannot see: that the torch seams are inside functions."""
    modules = [*torch_free_modules(), "app.main"]
    script = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        "    heavy = {'torch', 'transformers'} & sys.modules.keys()\n"
        "    assert not heavy, f'{module} loads {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- what the papers say ---


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-zA-Z][\w-]*):", makefile, flags=re.MULTILINE))


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "docker/README.md"])
def test_named_make_targets_exist(paper: str):
    text = (ROOT / paper).read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z][\w-]*)", text))
    for block in shell_blocks(text):
        named |= set(re.findall(r"^\s*(?:\$ )?make ([a-z][\w-]*)", block, flags=re.MULTILINE))
    assert named - make_targets() == set()


def test_readme_leads_with_the_two_commands():
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:60]
    text = "\n".join(first_screen)
    assert "make quickstart" in text
    assert "make test" in text


def test_make_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [t for t in sorted(make_targets()) if f"  {t} " not in done.stdout] == []


def decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


def test_decisions_have_their_three_parts():
    assert decisions(), "docs/adr holds no decision"
    for path in decisions():
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name), path.name
        headings = re.findall(r"^## (.+?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
        missing = {"Context", "Decision", "Consequences"} - set(headings)
        assert not missing, f"{path.name} lacks {missing}"


def test_decisions_are_numbered_once():
    numbers = [path.name[:4] for path in decisions()]
    assert len(numbers) == len(set(numbers)), numbers


# --- dependencies ---


def locked(file: str) -> dict[str, list[Version]]:
    pins: dict[str, list[Version]] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w.-]+)==([^\s;]+)", line):
            pins.setdefault(canonicalize_name(found[1]), []).append(Version(found[2]))
    return pins


def wanted(*extras: str) -> list[Requirement]:
    project = pyproject()["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements.lock", ["quickstart", "dev"]),
        ("requirements-runtime.lock", ["quickstart"]),
    ],
)
def test_lock_covers_the_dependencies(file: str, extras: list[str]):
    pins = locked(file) | locked("requirements-torch.txt")
    for requirement in wanted(*extras):
        versions = pins.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not in {file}; run make lock"
        for version in versions:
            assert version in requirement.specifier, f"{requirement} against {version} in {file}"


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-runtime.lock"])
def test_lock_has_hashes_and_no_cuda(file: str):
    text = (ROOT / file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert [e.splitlines()[0] for e in entries if "--hash=sha256:" not in e] == []
    cuda = [
        n for n in locked(file) if n.startswith(("nvidia-", "cuda-")) or n in {"torch", "triton"}
    ]
    assert cuda == []
    assert "file:" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def test_runtime_lock_is_part_of_the_lock():
    whole = locked("requirements.lock")
    for package, versions in locked("requirements-runtime.lock").items():
        assert set(versions) <= set(whole[package]), package
