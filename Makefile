# Each target does all the set-up that it needs. On a fresh machine 'make run' or 'make test' is the first command.
.DEFAULT_GOAL := help
.PHONY: help setup run test check bench bench-payment bench-consensus lock clean
SHELL := /bin/bash

PYTHON := .venv/bin/python
CONFIG ?= config.yaml
PYTEST_ARGS ?=

help:  ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

setup:  ## .venv with exactly what requirements-dev.lock names; a no-op while that does not change
	@scripts/setup

run: setup  ## the proxy with config.yaml
	@exec $(PYTHON) -m proxy serve --config $(CONFIG)

test: setup  ## all tests; PYTEST_ARGS for more, such as PYTEST_ARGS='-k caps'
	@scripts/test-programs
	$(PYTHON) -m pytest $(PYTEST_ARGS)

check: setup  ## lint, format, types, the direction of imports, the shipped configuration
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) -m proxy check --config config.yaml

bench: setup  ## beside its peers; a table, and bench/results/latest.json
	$(PYTHON) -m bench

bench-payment: setup  ## what looking at a payment costs, rail by rail
	$(PYTHON) -m bench --only payment

bench-consensus: setup  ## panels of scripted models, on virtual time; bench/results/consensus.json
	$(PYTHON) -m bench.consensus

lock: setup  ## requirements*.lock from requirements*.in
	@scripts/lock

clean:  ## remove what the targets above make; state in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/clients/node/node_modules tests/peers/chain/node_modules
	find proxy plugins tests bench -name __pycache__ -prune -exec rm -rf {} +
