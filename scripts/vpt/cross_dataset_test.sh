#!/usr/bin/env bash
# Test VPT, trained on ImageNet, on another data set: cross_dataset_test.sh DATASET [SEED ...]
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cross_dataset_test VPT "$@"
