# `make demo` and `make test` set up .venv on first use.
VENV := .venv/bin
METHODS ?= ZeroshotCLIP MMRL MMRLPlus
# Tests run in a process per core.
PARALLEL := -n auto --maxprocesses 8 --dist

.PHONY: demo help test test-slow test-browser test-slurm test-lowest coverage docs lint types format audit setup

demo: .venv/.ready  ## base-to-new on drawn pictures: every method of METHODS, three seeds
	$(VENV)/python -m tools.demo $(METHODS)

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' Makefile

test: .venv/.ready  ## the default tests: CPU, no network, no data
	$(VENV)/python -m pytest -q $(PARALLEL) loadscope

test-slow: .venv/.ready  ## the tests that take long
	$(VENV)/python -m pytest -q -m slow $(PARALLEL) load

test-browser: .venv/.ready  ## the report in Chromium (apt install chromium chromium-driver)
	$(VENV)/python -m pytest -q -rs -m browser

test-slurm: .venv/.ready  ## sweeps on a Slurm of one node; root has it installed (slurm-wlm, munge)
	bash tests/slurm/install.sh
	$(VENV)/python -m pytest -q -rs -m slurm tests/slurm

test-lowest: .venv/.ready  ## golden numbers, contract and config under the lowest versions that pyproject.toml allows
	bash scripts/test_lowest.sh

coverage: .venv/.ready  ## the default tests, and the lines that none of them reaches
	COVERAGE_CORE=$$($(VENV)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	  $(VENV)/python -m pytest -q $(PARALLEL) loadscope --cov --cov-report=term-missing

# Of the tools, uv is in .venv where setup.sh put it. NO_MKDOCS_2_WARNING: no advertisement in the output.
docs: .venv/.ready  ## the documentation as a site, in site/; broken links fail
	$(VENV)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict

lint: .venv/.ready  ## style
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

types: .venv/.ready  ## types of all rooms
	$(VENV)/mypy

format: .venv/.ready  ## what of style a program can put right
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

audit: .venv/.ready  ## known vulnerabilities of what is installed; no answer of the service is no failure
	$(VENV)/pip-audit --version
	! $(VENV)/pip-audit --local --skip-editable --progress-spinner off 2>&1 | grep -v '^ ' | tee /dev/stderr | grep '^Found ' >/dev/null

setup: .venv/.ready  ## nothing but .venv; LOCKED=1: the exact versions that were tested

# With LOCKED it is installed again, since .venv may hold other versions.
.venv/.ready: requirements.txt pyproject.toml scripts/setup.sh $(if $(LOCKED),constraints.txt FORCE)
	bash scripts/setup.sh

FORCE:
