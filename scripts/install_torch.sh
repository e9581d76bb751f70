#!/bin/sh
# Install the torch that requirements-torch.txt pins into one environment.
#
#   scripts/install_torch.sh PYTHON        PYTHON: the environment's interpreter
#
# ATTUNE_TORCH=auto  (default) CUDA where nvidia-smi works, the CPU build elsewhere
#             =cpu | cuda      that build, whatever this machine is: images are built without a GPU
#             =none            nothing: an API that serves no predictions needs no torch
#
# The CPU build goes in without its dependencies: requirements.lock has them, with hashes.
set -eu

python=${1:?usage: install_torch.sh PYTHON}
here=$(cd "$(dirname "$0")" && pwd)
requirement=$(grep '^torch==' "$here/../requirements-torch.txt")
cpu_index=https://download.pytorch.org/whl/cpu

say() { printf 'torch: %s\n' "$1" >&2; }

installed() {
  "$python" - <<'PYTHON'
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
try:
    parts = version("torch").split("+")[0].split(".")
except PackageNotFoundError:
    raise SystemExit(1)
raise SystemExit(find_spec("torch") is None or tuple(map(int, parts[:2])) < (2, 11))
PYTHON
}

build=${ATTUNE_TORCH:-auto}
if [ "$build" = none ]; then
  say "left out, as ATTUNE_TORCH=none asks"
  exit 0
fi
if installed; then
  say "an installed version will do"
  exit 0
fi
if [ "$build" = auto ]; then
  if nvidia-smi >/dev/null 2>&1; then build=cuda; else build=cpu; fi
fi

pip() { "$python" -m pip --disable-pip-version-check "$@"; }

case "$build:$(uname -s)" in
cuda:*)
  say "installing $requirement with CUDA"
  pip install "$requirement"
  ;;
cpu:Linux)
  # "+cpu" names the build, so no other can be taken by mistake. One retry and a short timeout: where
  # the index cannot be reached, pip soon goes on to the sources that its own configuration names.
  say "installing $requirement+cpu"
  if pip install --no-deps --retries 1 --timeout 15 --extra-index-url "$cpu_index" \
    "$requirement+cpu"; then
    exit 0
  fi
  say "no CPU build found at $cpu_index or in pip's configuration;"
  say "installing the package index's build instead: it works without a GPU, but is several GB"
  pip install "$requirement"
  ;;
cpu:*)
  say "installing $requirement" # on macOS there is one build
  pip install --no-deps "$requirement"
  ;;
*)
  say "ATTUNE_TORCH must be auto, cpu, cuda or none, not '$build'"
  exit 2
  ;;
esac
