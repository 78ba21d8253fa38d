PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Two test processes with one thread each: two processes with two threads each make OpenMP spin
# and slow a backward pass ten times. The one that is done takes from the other's queue: some tests take minutes.
TEST_ENV := OMP_NUM_THREADS=1
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup demo test test-slow lint clean help

help: ## say what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv with everything; the second call does nothing

# torch and torchvision are tied by their binary interface: they are chosen in one resolution.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[scenes,lite0,loggers,export,transformers,cluster,dev]'
	touch $@

demo: setup ## a teacher, a small student alone, the same student taught: minutes on 2 cores, results in runs/demo
	$(BIN)/python examples/demo.py

test: setup ## the test suite, under 10 minutes on 2 idle cores
	$(PYTEST) -m "not slow"

test-slow: setup ## fuzz campaigns and end-to-end runs
	$(PYTEST) -m slow

lint: setup ## ruff, mypy --strict, the floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
