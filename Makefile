# make setup | lint | test | test-slow | demo | demo FAIR=1: each sets up what it needs in .venv of this checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# One of two processes runs all files that use Ray, on one cluster; the other takes the rest (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: setup lint test test-slow demo

setup: $(STAMP)

# The stamp is as old as what it was installed from, so that a second `make` installs nothing.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster,dev]'
	touch $(STAMP)

test: lint
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: setup
	$(BIN)/python jobs/demo.py $(if $(filter-out 0,$(FAIR)),--fair,--no-fair)
