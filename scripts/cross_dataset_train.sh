#!/usr/bin/env bash
# Train on all of ImageNet: cross_dataset_train.sh METHOD [SEED ...]
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/common.sh"
one_by_one cross_dataset train "${1:-}" "${SOURCE:-imagenet}" "${@:2}"
