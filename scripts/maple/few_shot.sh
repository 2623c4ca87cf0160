#!/usr/bin/env bash
# Train MaPLe on all classes with 1, 2, 4, 8, 16 shots: few_shot.sh DATASET [SEED ...]
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
few_shot MaPLe "$@"
