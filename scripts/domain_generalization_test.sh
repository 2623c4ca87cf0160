#!/usr/bin/env bash
# Test what was trained on ImageNet on its four variants: domain_generalization_test.sh METHOD [SEED ...]
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/common.sh"
one_by_one cross_dataset test "${1:-}" imagenet-variants "${@:2}"
