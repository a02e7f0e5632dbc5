# Each target first makes sure of the environment: .venv with the package and its tools.
# A new environment is made with the Python that scripts/find_python.sh finds, or with PYTHON=...
#   make demo       fit eight schools, print the table, save the plot
#   make test       the whole test suite, slow tests included
#   make lint       ruff, formatting, types
#   make docs       the examples in the docstrings
#   make bench      the table of speeds beside the other packages
#   make clean      remove caches and outputs

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PYTEST_ARGS ?=

# Threads of BLAS and worker processes would fight over the cores.
test docs-test: export OPENBLAS_NUM_THREADS = 1
test docs-test: export OMP_NUM_THREADS = 1

.PHONY: help install demo test lint format docs docs-test bench clean

help:
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)

# An environment without a working Python >= 3.12 and pip is made anew; any other is kept.
$(STAMP): pyproject.toml
	@if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
		python=$$(sh scripts/find_python.sh) || exit 1; \
		echo "Creating $(VENV) with $$python"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo "Installing the package and its tools into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test,dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python demo/eight_schools.py

test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: docs-test

docs-test: $(STAMP)
	$(BIN)/python -m pytest --doctest-modules pymc_svi -q $(PYTEST_ARGS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf build dist docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache htmlcov .coverage
	rm -f demo/*.png
	find pymc_svi tests demo benchmarks tutorials docs -name __pycache__ -type d \
		-prune -exec rm -rf {} + 2>/dev/null || true
