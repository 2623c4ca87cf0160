#!/usr/bin/env bash
# Few-shot, 1 to 16 shots, on all datasets and seeds: few_shot.sh METHOD [FLAG ...] [-- KEY VALUE ...]
# DATASETS and SEEDS as lists in the environment, besides what scripts/common.sh takes; flags are
# those of python -m tools.sweep few_shot, such as --workers 2 or --on slurm.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[[ $# -gt 0 ]] || usage "METHOD [FLAG ...]"
# shellcheck disable=SC2086  # lists
sweep few_shot "$1" --datasets ${DATASETS:-all} --seeds ${SEEDS:-1 2 3} "${@:2}"
