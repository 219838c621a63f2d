# make demo | ready | test | test-all | lint | docs | bench | package | check  -- each sets up what it needs in .venv
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The demo needs no torch, and its environment is a third of the full one: what it encodes with
# comes with skytwin and runs in NumPy where torch is not.
DEMO_READY := $(VENV)/.ready-demo
FULL_READY := $(VENV)/.ready-full
INPUTS := pyproject.toml constraints.txt

.PHONY: demo ready test test-slow test-all lint docs bench package check clean

demo: $(DEMO_READY)
	rm -rf demo
	$(BIN)/python examples/hubble.py demo

ready: $(FULL_READY)

# Several processes of one thread each; the tests of a file share what they set up.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test: $(FULL_READY)
	$(PYTEST) -m "not slow and not real"

SLOW ?= slow or real
test-slow: $(FULL_READY)
	$(PYTEST) --no-loadscope-reorder --durations=20 -m "$(SLOW)"

test-all: test test-slow

lint: $(FULL_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(FULL_READY)
	PYTHONWARNINGS=ignore NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	SKYTWIN_SITE=site $(BIN)/python -m pytest -q -m pages tests/test_docs.py

bench: $(FULL_READY)
	$(BIN)/python -W ignore benchmarks/bench.py

package: $(FULL_READY)
	rm -rf dist build/lib build/bdist*
	$(BIN)/python -m build --no-isolation --outdir dist .

check: lint test-all docs

clean:
	rm -rf $(VENV) demo site build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO_READY): $(INPUTS) | $(BIN)/python
	$(PIP) --editable ".[demo]"
	touch $@

$(FULL_READY): $(INPUTS) | $(BIN)/python
	$(PIP) --editable ".[all,dev]"
	touch $@ $(DEMO_READY)
