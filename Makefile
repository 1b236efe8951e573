# make demo   set everything up and run the whole job on real data
# make test   set everything up and run the tests
# The environment is .venv (Python >= 3.11); Lava's own Python 3.10 environment is made by `ashneuro doctor --setup lava`.

PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
# One process per core and one thread in each; the tests of a file stay together, so that they share what they prepare.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses auto --dist loadfile

.PHONY: setup lava sanafe demo test test-gpu test-slow lint docs clean

setup: .venv/installed

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "ashneuro needs Python 3.11 or newer; none was found on PATH"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# A machine without Python 3.10 still runs everything else; the Lava steps then report "not run".
lava: setup
	-$(BIN)/ashneuro doctor --setup lava

# Optional, for tests of `--target sanafe`: GPL, so in an environment and a process of its own.
sanafe: setup
	-$(BIN)/ashneuro doctor --setup sanafe

demo: setup lava
	$(BIN)/ashneuro demo

test: setup lava sanafe
	$(PYTEST) -m "not gpu and not slow"

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

test-slow: setup lava
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/; every warning is a failure.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-3.* build dist site
