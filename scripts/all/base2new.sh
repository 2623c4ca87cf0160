#!/usr/bin/env bash
# Base-to-new on all datasets and seeds: base2new.sh METHOD [FLAG ...] [-- KEY VALUE ...]
# DATASETS and SEEDS as lists in the environment, besides what scripts/common.sh takes; flags are
# those of python -m tools.sweep base2new, such as --workers 2 or --on slurm.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[[ $# -gt 0 ]] || usage "METHOD [FLAG ...]"
# shellcheck disable=SC2086  # lists
sweep base2new "$1" --datasets ${DATASETS:-all} --seeds ${SEEDS:-1 2 3} "${@:2}"
