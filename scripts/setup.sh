#!/usr/bin/env bash
# Make .venv with everything the project needs; with uv if it can be had, else with pip.
# Called by make. Takes Python 3.10 or newer: $PYTHON, else the first that is found.
# LOCKED=1: the exact versions that were tested (constraints.txt), not the newest that are allowed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python python3.13 python3.12 python3.11 python3.10; do
        if suits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python 3.10 or newer found; install one, or name it: make PYTHON=/path/to/python3" >&2
    return 1
}

make_venv() {
    [[ -x .venv/bin/python ]] && suits .venv/bin/python && return
    rm -rf .venv
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$1" .venv
    elif ! "$1" -m venv .venv; then
        rm -rf .venv
        echo "error: $1 cannot make a virtual environment. On Debian and Ubuntu:" \
            "apt install python3-venv; or install uv: https://docs.astral.sh/uv" >&2
        return 1
    fi
}

find_uv() {
    command -v uv && return
    [[ -x .venv/bin/uv ]] || .venv/bin/python -m pip install --quiet uv >/dev/null 2>&1 || return 1
    echo .venv/bin/uv
}

python=$(find_python)
echo "Setting up .venv with $("$python" --version) (once; about 6 GB with PyTorch for CUDA) ..."
make_venv "$python"
packages=(-r requirements.txt)
[[ -z ${LOCKED:-} ]] || packages+=(-c constraints.txt)
if uv=$(find_uv); then
    "$uv" pip install --python .venv/bin/python "${packages[@]}"
else
    .venv/bin/python -m pip install "${packages[@]}"
fi
touch .venv/.ready
