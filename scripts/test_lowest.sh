#!/usr/bin/env bash
# Golden numbers, contract and config under the lowest versions that pyproject.toml allows, in a
# virtual environment of its own. Called by make. Needs uv; takes Python 3.10, or $PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=$(command -v uv || echo .venv/bin/uv)
command -v "$uv" >/dev/null || {
    echo "error: uv is not installed: pip install uv, or https://docs.astral.sh/uv" >&2
    exit 2
}
"$uv" venv --quiet --clear --python "${PYTHON:-3.10}" .venv-lowest
# Only what the project names is lowest; what those packages need is as new as they allow.
# Tests and linters are those of every day.
"$uv" pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
    -e '.[report,export,backbones]'
"$uv" pip install --quiet --python .venv-lowest/bin/python pytest pytest-xdist hypothesis
.venv-lowest/bin/python -m pytest -q -n auto --maxprocesses 8 --dist loadscope \
    -W "ignore::DeprecationWarning" -W "ignore::FutureWarning" \
    tests/trainers tests/run/test_config_values.py tests/run/test_typed.py \
    tests/house/test_train_config.py packages/dassl/tests/test_config.py
