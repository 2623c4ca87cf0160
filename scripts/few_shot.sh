#!/usr/bin/env bash
# Train on all classes with 1, 2, 4, 8, 16 shots: few_shot.sh METHOD DATASET [SEED ...]
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/common.sh"
one_by_one few_shot train "$@"
