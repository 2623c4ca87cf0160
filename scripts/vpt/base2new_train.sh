#!/usr/bin/env bash
# Train VPT on the base classes: base2new_train.sh DATASET [SEED ...]
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_train VPT "$@"
