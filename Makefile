# `make demo` is the quickest way to see Polyclinic; `make check` is what CI runs.

PYTHON ?= python3
BIN := .venv/bin
CODE := src tests scripts benchmarks
# Two processes of one thread each pass the tests in half the time that one of two threads needs.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# A folder that holds sites/, one folder of images a hospital, and the server's corpus/.
DATA ?= data

.PHONY: help setup demo test loopback check lint format benchmark benchmark-quick

help:
	@echo "make setup    create .venv with everything in it (about a minute)"
	@echo "make demo     set up, then train and report on made-up images (a few minutes)"
	@echo "make test     set up, then run the tests"
	@echo "make loopback a federation of real processes on this machine, with kills (minutes)"
	@echo "make benchmark-quick DATA=folder   one quick run on real data (about 10 minutes)"
	@echo "make benchmark DATA=folder         the whole comparison on real data (days of a core)"
	@echo "make check    format, lint, types, tests, examples in the documentation"
	@echo "make format   rewrite the code in the project's format"

setup:
	@$(PYTHON) scripts/setup_env.py

demo: setup
	$(BIN)/polyclinic demo

loopback: setup
	POLYCLINIC_LOOPBACK=1 $(BIN)/python -m pytest tests/deploy/test_loopback.py

benchmark-quick: setup
	mkdir -p runs
	$(BIN)/polyclinic init "$(DATA)" --out runs/benchmark-quick.toml --force
	$(BIN)/polyclinic run runs/benchmark-quick.toml --quick

# What is finished is not done again, as long as the data and the settings are the same.
benchmark: setup
	$(BIN)/python benchmarks/ablation.py "$(DATA)"
	$(BIN)/python benchmarks/communication.py "$(DATA)"
	$(BIN)/python benchmarks/scaling.py "$(DATA)"
	$(BIN)/python benchmarks/shift.py "$(DATA)"
	$(BIN)/python benchmarks/left_out_sites.py "$(DATA)"
	$(BIN)/python benchmarks/eight_sites.py "$(DATA)"

test: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

check: lint
	$(PYTEST) --doctest-modules --doctest-glob='*.md' tests src docs README.md

format: setup
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)
