#!/usr/bin/env bash
# Test CoOp, trained on ImageNet, on the four variants of ImageNet: domain_generalization_test.sh [SEED ...]
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
domain_generalization_test CoOp "$@"
