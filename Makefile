# Everything a developer types. `make` alone lists it.
#
# Needs only Python 3.11 or newer with venv, and make. Whatever a target needs it builds first; a stamp
# file in .venv makes the second time instant.

PYTHON ?= python3
# More arguments for pytest: make test T="tests/unit -k lease"
T ?= tests
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.attune-setup
UV_VERSION := 0.13.9
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

##@ Start here

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-zA-Z_-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv with torch, the locked dependencies and Attune itself

.PHONY: quickstart
quickstart: setup ## From nothing to a fine-tuned, served model, and leave nothing running
	$(BIN)/attune quickstart

##@ Run

.PHONY: up
up: setup ## Start API, worker and broker in this terminal, on SQLite
	$(BIN)/attune up

.PHONY: down
down: setup ## Stop what `make up` started
	$(BIN)/attune down

.PHONY: migrate
migrate: setup ## Bring the database to the newest schema
	$(BIN)/attune migrate

##@ Prove

.PHONY: test
test: setup ## Run all tests on real servers that they start themselves (T=... narrows)
	$(BIN)/python -m pytest -n 2 --dist loadfile -p no:valkey $(T)

.PHONY: check
check: lint types arch ## Everything that reads the code and changes nothing

.PHONY: lint
lint: setup ## Check format and style with ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: types
types: setup ## Check types with pyright, strict for app and workers
	$(BIN)/pyright

.PHONY: arch
arch: setup ## Check the import contracts and the house rules
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -p no:valkey tests/architecture

.PHONY: ci
ci: check test ## What .ci/run runs

.PHONY: bench
bench: setup ## Measure speed and memory; prints tables, asserts nothing
	for name in startup control_plane first_step predict trainer_vs_hf batching probe lora_cost packing; do \
	  echo "== $$name"; $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

##@ Change

.PHONY: fix
fix: setup ## Format, and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: $(VENV)/pyvenv.cfg ## Write requirements*.lock anew from pyproject.toml, newest versions
	$(PIP) install --quiet "uv==$(UV_VERSION)"
	$(call compile,--extra quickstart --extra dev,requirements.lock)
	$(call compile,--extra quickstart,requirements-runtime.lock)

.PHONY: clean
clean: ## Remove .venv, caches and build results; never any data
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# torch is left out: scripts/install_torch.sh installs it first, from requirements-torch.txt.
define compile
	{ echo "# Made by 'make lock'; do not edit. Install torch first (scripts/install_torch.sh), then:"; \
	  echo "#   pip install --no-deps --require-hashes -r $(2)"; \
	  $(BIN)/uv pip compile pyproject.toml $(1) --quiet --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-emit-package torch; } > $(2).new
	mv $(2).new $(2)
endef

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "On Debian and Ubuntu the venv module is a package: apt install python3-venv" >&2; exit 1; }

$(STAMP): $(VENV)/pyvenv.cfg requirements.lock requirements-torch.txt scripts/install_torch.sh pyproject.toml
	scripts/install_torch.sh $(BIN)/python
	$(PIP) install --quiet --no-deps --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
