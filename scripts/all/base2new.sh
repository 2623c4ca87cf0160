#!/usr/bin/env bash
# Base-to-new on all data sets and seeds: base2new.sh METHOD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
method=$(method_folder "$@")
for dataset in ${DATASETS:-imagenet $TARGETS}; do
    for seed in $SEEDS; do
        attempt "$method/base2new_train.sh" "$dataset" "$seed"
        attempt "$method/base2new_test.sh" "$dataset" "$seed"
    done
done
finish
