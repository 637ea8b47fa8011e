# `make demo` and `make test` need Python 3.11 or newer and nothing else: they install the rest
# into .venv, pinned by constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE ?= results

.PHONY: demo test test-all check format clean

demo: $(VENV)/ready
	$(BIN)/robsweep run sweeps/quickstart.yaml --store $(STORE)
	@echo
	@echo "Compare the models in the dashboard: $(BIN)/robsweep dash --store $(STORE)"

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: $(VENV)/ready
	$(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("robsweep needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(VENV): some 1.5 GB, a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
