# All targets use .venv, which is created on first use from the hashed lock files. `make` without a target lists them.

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
METADATA := pyproject.toml app/__init__.py
# If .venv is incomplete or its Python was removed, create it again.
$(shell $(BIN)/python -c 'import pip' 2>/dev/null || rm -f $(BIN)/python $(RUNTIME) $(DEV))

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-strip-extras --quiet
COMPILE_RUNTIME := $(COMPILE) --group build --extra postgres --output-file requirements.txt
COMPILE_DEV := $(COMPILE) --group dev --extra postgres --constraint requirements.txt --output-file requirements-dev.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Parallel targets would run two pip processes in one .venv.
.NOTPARALLEL:
.PHONY: help demo test test-full soak bench run check check-code check-lock check-deploy check-words lock clean

help:
	@echo "make demo       run the service against sandboxes, without accounts: events arrive, a list fills (ARGS=--once exits at the end)"
	@echo "make test       run every test at a small size, in five minutes (ARGS=\"-k newest\" chooses some)"
	@echo "make test-full  run every test in depth and measure coverage, in a quarter of an hour"
	@echo "make soak       run the random tests for about an hour"
	@echo "make bench      measure speed as ratios within one run, in forty minutes (ARGS=ingest for one row)"
	@echo "make run        start the service with the settings in .env"
	@echo "make check      check code, types, lock files and deploy files"
	@echo "make lock       update the lock files after a change in pyproject.toml (ARGS=--upgrade for newer releases)"
	@echo "make clean      remove .venv, caches and build output; data/ and .env stay"

demo: $(RUNTIME)
	@$(BIN)/lytics-sailthru demo $(ARGS)

run: $(RUNTIME)
	@$(BIN)/lytics-sailthru serve $(ARGS)

# One more worker than cores, because some tests mostly wait.
WORKERS = --numprocesses $$($(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)') --dist worksteal

# Every promise at a small size. With ARGS the chosen tests run in one process.
test: $(DEV)
	@TEST_SIZE=small $(BIN)/python -m pytest $(or $(ARGS),$(WORKERS))

# The same tests in depth. Only this run measures coverage, because smaller runs can't reach the minimum.
test-full: $(DEV)
	@TEST_SIZE=full $(BIN)/python -m pytest $(or $(ARGS),--cov $(WORKERS))

# Each run prints its seeds; HISTORIES_SEED, REPLICAS_SEED and FUZZ_SEED repeat one.
soak: $(DEV)
	TEST_SIZE=soak FUZZ_SEED=$$(date +%s) $(BIN)/python -m pytest -rP -o timeout=36000 --numprocesses auto --dist worksteal \
		tests/promises/test_any_history.py tests/promises/test_backfill.py tests/promises/test_backfill_killed.py tests/promises/test_replicas.py \
		tests/web/webhook/test_fuzz.py tests/web/test_schemathesis.py $(ARGS)

bench: $(DEV)
	@$(BIN)/python -m tests.bench $(ARGS)

check: check-code check-lock check-deploy check-words
	@echo "All checks passed."

check-code: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Compiling over a copy keeps its pins, so a difference comes from pyproject.toml, not from a new release.
check-lock: $(DEV)
	@bin="$$PWD/$(BIN)"; dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	cp pyproject.toml requirements.txt requirements-dev.txt "$$dir" && \
	if (cd "$$dir" && "$$bin"/$(COMPILE_RUNTIME) && "$$bin"/$(COMPILE_DEV)) >/dev/null 2>"$$dir/errors"; then \
		diff -u requirements.txt "$$dir/requirements.txt" && \
		diff -u requirements-dev.txt "$$dir/requirements-dev.txt" && \
		echo "The locks fit pyproject.toml." || \
		{ echo "The locks do not fit pyproject.toml: run make lock."; exit 1; }; \
	elif grep -Eq 'Failed to fetch|network was disabled' "$$dir/errors"; then \
		echo "The locks were not checked: the package index can't be reached."; \
	else \
		cat "$$dir/errors" >&2; exit 1; \
	fi

check-deploy: $(DEV)
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/yamllint --strict .yamllint.yaml .pre-commit-config.yaml deploy
	$(BIN)/python -m pytest --quiet tests/test_architecture.py tests/deploy

# The repository must not name package registries or paths of one machine.
check-words:
	@if ! git rev-parse --git-dir >/dev/null 2>&1; then \
		echo "Hosts and paths were not checked: this is not a git clone."; \
	elif git grep -nIE \
		-e '(pypi|pythonhosted|npmjs|rubygems)[.](org|com)' \
		-e 'https?://[^ ]*/simple(/|$$)' \
		-e '^--(index-url|extra-index-url|find-links)' \
		-e '(^|[^[:alnum:]_.}/-])/(home|root|work|Users)/[[:alnum:]]'; then \
		echo "These lines name a package registry or a path of one machine."; exit 1; \
	fi

lock: $(DEV)
	$(BIN)/$(COMPILE_RUNTIME) $(ARGS)
	$(BIN)/$(COMPILE_DEV) $(ARGS)

clean:
	rm -rf $(VENV) dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Use the first Python that is new enough and has the venv module, which is a separate package in Debian.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Setting up $(VENV) with $$("$$python" --version), about a minute ..."; \
			"$$python" -m venv --clear $(VENV) && exit 0; \
			rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "Please install Python 3.11 or newer with its venv module (Debian, Ubuntu: apt-get install python3-venv)," \
		"then run make again." >&2; \
	exit 1

$(RUNTIME): requirements.txt $(METADATA) | $(BIN)/python
	@echo "Installing what the service needs (requirements.txt) ..."
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(DEV): requirements-dev.txt requirements.txt $(METADATA) | $(BIN)/python
	@echo "Installing what the service and its tests need (requirements-dev.txt) ..."
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $(RUNTIME) $@
