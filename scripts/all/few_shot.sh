#!/usr/bin/env bash
# Few-shot, 1 to 16 shots, on all data sets and seeds: few_shot.sh METHOD
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
method=$(method_folder "$@")
for dataset in ${DATASETS:-imagenet $TARGETS}; do
    for seed in $SEEDS; do
        for shots in ${SHOTS:-1 2 4 8 16}; do
            SHOTS=$shots attempt "$method/few_shot.sh" "$dataset" "$seed"
        done
    done
done
finish
