#!/usr/bin/env bash
# Test what was trained on the new classes: base2new_test.sh METHOD DATASET [SEED ...]
source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/common.sh"
one_by_one base2new test "$@"
