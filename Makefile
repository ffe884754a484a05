# `make up` needs Python 3.11+ and make, `make test` npm as well; everything else comes from the lock files.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Nothing is taken that the lock files do not name by its hash; `install` keeps what the other of the two brought.
# (Compiled while installing, not by six processes at once at the first start.)
INSTALL := $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python
LINTED := api workers shared tests bench migrations beat_schedule.py examples clients/python docs/*.py

ifdef PORT
export CARILLON_PORT := $(PORT)
endif
ifdef FLOWER_PORT
export CARILLON_FLOWER_PORT := $(FLOWER_PORT)
endif

.PHONY: help up schemathesis test check fmt bench bench-scaling bench-peers deploy-test previous fault fault-mutations screenshots lock audit clean

help:  ## Show these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

up: $(VENV)/.product  ## Start everything on this machine; Ctrl-C stops it
	@$(BIN)/carillon up --with-parent

test: $(VENV)/.development  ## Run every test against real servers
	@$(BIN)/python tests/fetch_webhook_examples.py
	@$(BIN)/pytest

check: $(VENV)/.development  ## Run the static checks
	@$(BIN)/ruff check $(wildcard $(LINTED))
	@$(BIN)/ruff format --check $(wildcard $(LINTED))
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: $(VENV)/.development  ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix --exit-zero --quiet $(wildcard $(LINTED))
	@$(BIN)/ruff format $(wildcard $(LINTED))

bench: $(VENV)/.development  ## Measure the whole way beside the usual one, five times in some ten minutes, and write docs/performance.md
	@$(BIN)/python -m bench.end_to_end --write

bench-scaling: $(VENV)/.development  ## Measure how cost grows, and write docs/performance.md and docs/scaling.md (20 minutes)
	@$(BIN)/python -m bench.simulate
	@$(BIN)/python -m bench.scaling

bench-peers: $(VENV)/.development  ## Measure the edge beside other servers, in turn, for half an hour, and write docs/performance.md (installs them on Debian)
	@bench/peers/install
	@$(BIN)/python -m bench.peers --runs 5 --write $(PEERS)

deploy-test: $(VENV)/.development  ## Run the tests of RabbitMQ, Redis Cluster and PgBouncer, which Debian's packages bring
	@for program in redis-server pgbouncer rabbitmqctl; do PATH="$$PATH:/usr/sbin" command -v $$program >/dev/null \
	  || { echo "$$program is missing: apt-get install redis-server pgbouncer rabbitmq-server" >&2; exit 1; }; done
	@CARILLON_DEPLOY_TESTS=1 $(BIN)/pytest tests/deploy

previous:  ## Keep RELEASE (a tag) as the previous release, which tests/integration/test_upgrade.py runs beside this one
	@git archive $(RELEASE) api shared workers migrations beat_schedule.py web/src | xz -9e > tests/upgrade/previous.tar.xz
	@git rev-parse $(RELEASE)^{commit} > tests/upgrade/RELEASE

fault: $(VENV)/.development  ## Break every part under load, for an hour, and write docs/faults.md (it goes on where it was stopped)
	@$(BIN)/python -m tests.fault.runner

fault-mutations: $(VENV)/.development  ## Break one mechanism after the other in a copy, see its test go red, and write docs/mutations.md (it goes on where it was stopped)
	@$(BIN)/python -m tests.fault.mutate

screenshots: $(VENV)/.development  ## Take the documentation's pictures from a running `make up`
	@$(BIN)/python docs/screenshots.py http://localhost:$${CARILLON_PORT:-8000}
	@$(BIN)/python docs/screenshots_ops.py http://localhost:$${CARILLON_PORT:-8000}

audit: $(VENV)/.development  ## Look the locked packages up among the known vulnerabilities (needs the network)
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.lock

schemathesis: $(VENV)/.development  ## Try the API by its description for longer than `make test` does (an hour)
	@CARILLON_SCHEMATHESIS_EXAMPLES=50 $(BIN)/pytest tests/contract

lock: $(VENV)/.uv  ## Resolve pyproject.toml anew into the lock files
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	@$(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.lock

clean:  ## Remove the environment and the caches; the data in .carillon/ stays
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

# --- the environment, each step done once until its lock file changes ---

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Carillon needs Python 3.11 or newer as $(PYTHON): install it, or name it as in make PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "This Python lacks venv: install it (Debian: apt-get install python3-venv), then again." >&2; exit 1; }
	@[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.uv: requirements-uv.lock $(VENV)/.python
	@echo "Building the environment in $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

$(VENV)/.product: requirements.lock pyproject.toml $(VENV)/.uv
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# The development lock is a superset of the product's, so the product's step is done with it.
$(VENV)/.development: requirements-dev.lock requirements.lock pyproject.toml $(VENV)/.uv
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.product
