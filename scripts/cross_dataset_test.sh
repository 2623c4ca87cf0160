#!/usr/bin/env bash
# Test what was trained on ImageNet on another dataset: cross_dataset_test.sh METHOD DATASET [SEED ...]
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/common.sh"
one_by_one cross_dataset test "$@"
