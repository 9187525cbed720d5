# make demo    the whole chain on the sample library: books in, a model that answers out
# make test    every check and every test
# make chaos   training killed at every moment, 40 times over
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
REQUIREMENTS := requirements.txt requirements-demo.txt requirements-dev.txt

.PHONY: demo test chaos lint setup images clean

demo: setup
	$(BIN)/pipeline all --config configs/demo.yaml

# Two processes, each with one thread: compute threads that wait for one another would take longer.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# 40 runs that are killed, damaged and refused by their remote until they end: three minutes.
chaos: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --runs 40

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/.done

# The stamp is written last, so a set-up that was interrupted is taken up again.
$(VENV)/.done: $(REQUIREMENTS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip==26.3"
	$(BIN)/python -m pip install -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --no-deps -r requirements-demo.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	touch $@

images: setup
	$(BIN)/python images/flow.py

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
