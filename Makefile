# make serve: the service on http://127.0.0.1:$(PORT).   make test: all checks and tests.   make smoke: the containers.
PYTHON ?= python3
VENV ?= .venv
PORT ?= $(or $(SIGHTGLASS_PORT),8000)
BIN := $(VENV)/bin
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-strip-extras \
	--custom-compile-command "make lock"

# $(call timed,COMMAND): it, and how long it took.
define timed
	@echo "$(1)"; start=$$(date +%s); $(1) && echo "make: $$(($$(date +%s) - start)) s  $(1)"

endef

# Nothing is compiled before it is imported, but then once and not by each of a test run's 500 processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test test-slow smoke bench check lock openapi

serve: $(VENV)/.serve
	SIGHTGLASS_PORT=$(PORT) exec $(BIN)/python -m app

test: check
	$(BIN)/pytest --cov --numprocesses auto --dist loadfile --no-loadscope-reorder

# Every network of the registry trained a step, exported, served; every recipe; attacks at full size; what
# measures a GPU. Takes half an hour and 10 GB of memory.
test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow tests

# Builds the image and runs it every way that docs/deploy.md tells; needs a Docker engine, no torch, and takes four minutes on 2 cores.
smoke: $(VENV)/.smoke
	$(BIN)/python -m pytest -m smoke --confcutdir tests/smoke tests/smoke

# Compares the service with the ceiling, the HTTP floor and a naive one: 18 minutes on a quiet machine; wrk and h2load.
bench: $(VENV)/.dev
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks $(BENCH)

check: $(VENV)/.dev
	$(call timed,$(BIN)/ruff format --check .)
	$(call timed,$(BIN)/ruff check .)
	$(call timed,$(BIN)/mypy)
	$(call timed,$(BIN)/lint-imports)
	$(call timed,$(BIN)/python -m tests.locks)

# After a change of what the service says: look at the diff, it is what generated clients will see.
openapi: $(VENV)/.dev
	$(BIN)/python -m tests.app.openapi

# requirements/: every version with its hashes, extras as extras (tests/locks.py says why), for the images and for `make serve`
# and `make test`. torch comes from the default index; dev.txt is made first and holds everything, so that the others agree.
lock: $(VENV)/.dev
	$(LOCK) pyproject.toml --upgrade --all-extras --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --constraint requirements/dev.txt --output-file requirements/serve.txt
	for extra in torchscript train lambda; do \
		$(LOCK) pyproject.toml --constraint requirements/dev.txt --extra $$extra --output-file requirements/$$extra.txt || exit; done
	echo 'setuptools>=77' | $(LOCK) - --constraint requirements/dev.txt --output-file requirements/build.txt

# The serving install has no torch; what `make test` installs holds it too. Python compiles what is imported, which is a part
# of what is installed.
$(VENV)/.serve: pyproject.toml requirements/serve.txt requirements/build.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes \
		--requirement requirements/serve.txt --requirement requirements/build.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# $(call pip_install_some,NAME|NAME): of what `make test` installs only these.
define pip_install_some
	awk '/^($(1))==/ { on = 1 } on; !/\\$$/ { on = 0 }' requirements/dev.txt >$@.txt
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes --requirement $@.txt
endef

# So that CI need not wait for 5 GB.
$(VENV)/.smoke: $(VENV)/.serve requirements/dev.txt
	$(call pip_install_some,iniconfig|pluggy|pytest)
	touch $@

# By uv, which takes 27 s of CPU for them where pip takes 140; by pip where uv reaches no index: it reads no pip.conf.
$(VENV)/.dev: pyproject.toml requirements/dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call pip_install_some,uv)
	$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes --requirement requirements/dev.txt || \
		$(BIN)/python -m pip install --quiet --no-compile --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@ $(VENV)/.serve
