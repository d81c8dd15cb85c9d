# Every target sets up what it needs; what is there already costs a moment.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PY := .venv/bin/python
ARGS ?=
JOBS ?= 2

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: packages-demo venv-demo assets ## set up and run the main job; ARGS=--once ends when all is archived
	@$(PY) -m demo $(ARGS)

.PHONY: test
test: packages-test venv-dev assets ## set up and run the whole suite; ARGS are pytest's
	@$(PY) -m pytest -n $(JOBS) --ignore tests/hardware $(ARGS) tests

.PHONY: test-hardware
test-hardware: packages-hardware venv-dev assets ## a real kernel and real USB in QEMU; ARGS are pytest's
	@$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS) tests/hardware

.PHONY: check
check: packages-python venv-dev ## lint, format, types, import contracts, generated files
	@echo "check: ruff"
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@echo "check: types"
	@$(PY) -m mypy
	@echo "check: import contracts"
	@.venv/bin/lint-imports --no-logo
	@if [[ -x scripts/check-generated ]]; then echo "check: generated files"; scripts/check-generated; fi

.PHONY: bench
bench: packages-bench packages-hardware venv-dev venv-peers assets ## the measured figures beside their peers
	@$(PY) -m bench $(ARGS)

.PHONY: soak
soak: packages-test venv-dev assets ## everything at random for half an hour and 1,000 kills; ARGS=--faults for hours of disk faults first
	@$(PY) -m soak $(ARGS)

.PHONY: bundle
bundle: packages-bundle venv-dev assets ## one file that installs all on Debian 12 without network, in dist/; ARGS='--arch amd64'
	@$(PY) -m bundle $(ARGS)

.PHONY: clean
clean: ## remove everything that these targets made
	@for made in .demo .soak; do if [[ -d $$made ]]; then chmod -R u+w $$made; fi; done
	@rm -rf .venv .demo .soak dist build bench/results .hardware server_agent/console/static/vendor
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name .git -prune -o -name __pycache__ -prune -exec rm -rf {} +

# Steps of the targets above. Each looks first, and says one line when it has something to do.
.PHONY: packages-python packages-demo packages-bench packages-test packages-bundle packages-hardware venv-demo venv-dev venv-peers assets
packages-python packages-demo packages-bench packages-test packages-bundle packages-hardware: packages-%: ; @scripts/system-packages $*
venv-demo venv-dev venv-peers: venv-%: ; @scripts/venv $*
assets: ; @scripts/console-assets
