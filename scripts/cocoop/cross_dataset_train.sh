#!/usr/bin/env bash
# Train CoCoOp on all of ImageNet: cross_dataset_train.sh [SEED ...]
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cross_dataset_train CoCoOp "$@"
