#!/usr/bin/env bash
# Train on the base classes: base2new_train.sh METHOD DATASET [SEED ...]
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/common.sh"
one_by_one base2new train "$@"
