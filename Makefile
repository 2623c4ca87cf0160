# `make demo` and `make test` set up .venv on first use.
VENV := .venv/bin
METHODS ?= ZeroshotCLIP MMRL MMRLPlus

.PHONY: demo test test-slow test-browser lint format audit setup

demo: .venv/.ready  ## base-to-new on drawn pictures: every method of METHODS, three seeds
	$(VENV)/python -m tools.demo $(METHODS)

test: .venv/.ready  ## the default tests: CPU, no network, no data
	$(VENV)/python -m pytest -q

test-slow: .venv/.ready  ## the tests that take long
	$(VENV)/python -m pytest -q -m slow

test-browser: .venv/.ready  ## the report's page in Chromium, which root gets from apt if it is missing
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium chromium-driver; } || \
	  echo "no Chromium here, and it cannot be installed: the browser tests will be skipped"
	$(VENV)/python -m pytest -q -rs -m browser

lint: .venv/.ready
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

format: .venv/.ready
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

audit: .venv/.ready  ## known vulnerabilities of what is installed, where a service answers
	$(VENV)/python -m tools.audit

setup: .venv/.ready

.venv/.ready: requirements.txt packages/dassl/pyproject.toml scripts/setup.sh
	bash scripts/setup.sh
