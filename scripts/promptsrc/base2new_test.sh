#!/usr/bin/env bash
# Test the trained PromptSRC on the new classes: base2new_test.sh DATASET [SEED ...]
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
base2new_test PromptSRC "$@"
