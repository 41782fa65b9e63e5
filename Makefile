# make serve: the service on http://127.0.0.1:$(PORT).   make test: all checks and tests.
PYTHON ?= python3
VENV ?= .venv
PORT ?= $(or $(SIGHTGLASS_PORT),8000)
BIN := $(VENV)/bin

.PHONY: serve test check

serve: $(VENV)/.serve
	SIGHTGLASS_PORT=$(PORT) exec $(BIN)/python -m app

test: check
	$(BIN)/pytest --cov --numprocesses auto --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The serving install has no torch; what `make test` installs holds it too.
$(VENV)/.serve: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	touch $@ $(VENV)/.serve
