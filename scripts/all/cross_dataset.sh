#!/usr/bin/env bash
# Train on ImageNet, test on ten data sets and on ImageNet's variants: cross_dataset.sh METHOD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
method=$(method_folder "$@")
for seed in $SEEDS; do
    attempt "$method/cross_dataset_train.sh" "$seed"
    for dataset in ${DATASETS:-$TARGETS $VARIANTS}; do
        attempt "$method/cross_dataset_test.sh" "$dataset" "$seed"
    done
done
finish
