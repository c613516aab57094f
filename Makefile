# `make demo` is the quickest way to see Polyclinic; `make check` is what CI runs.

PYTHON ?= python3
BIN := .venv/bin
CODE := src tests scripts benchmarks
# Two processes of one thread each pass the tests in half the time that one of two threads needs.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: help setup demo test loopback check lint format

help:
	@echo "make setup    create .venv with everything in it (about a minute)"
	@echo "make demo     set up, then train and report on made-up images (a few minutes)"
	@echo "make test     set up, then run the tests"
	@echo "make loopback a federation of real processes on this machine, with kills (minutes)"
	@echo "make check    format, lint, types, tests, examples in the documentation"
	@echo "make format   rewrite the code in the project's format"

setup:
	@$(PYTHON) scripts/setup_env.py

demo: setup
	$(BIN)/polyclinic demo

loopback: setup
	POLYCLINIC_LOOPBACK=1 $(BIN)/python -m pytest tests/deploy/test_loopback.py

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
