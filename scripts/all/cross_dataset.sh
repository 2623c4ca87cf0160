#!/usr/bin/env bash
# Train on ImageNet, test on ten data sets and on ImageNet's variants: cross_dataset.sh METHOD [FLAG ...] [-- KEY VALUE ...]
# DATASETS and SEEDS as lists in the environment, besides what scripts/common.sh takes; flags are
# those of python -m tools.sweep cross_dataset, such as --workers 2 or --on slurm.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
[[ $# -gt 0 ]] || usage "METHOD [FLAG ...]"
# shellcheck disable=SC2086  # lists
sweep cross_dataset "$1" --datasets ${DATASETS:-all} --seeds ${SEEDS:-1 2 3} "${@:2}"
