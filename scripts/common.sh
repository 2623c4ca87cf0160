# What all scripts share. A script names its trainer and calls one function of this file.
#
# From the environment:
#   DATA      folder of the data sets            (default: data/ of this repository)
#   OUTPUT    folder of the runs                 (default: output/ of this repository)
#   CFG       variant in configs/trainers/<Trainer>/, without .yaml
#   BACKBONE  CLIP's name, a weights file or 'small'  (default: what the variant says)
#   SHOTS     images per class                   (default: 16; few-shot: "1 2 4 8 16")
#   OPTS      more options, "KEY VALUE ..."
#   PYTHON    the interpreter                    (default: .venv's, else python3)
#
# A finished run is skipped, an unfinished one is done again from its last checkpoint.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
absolute() { if [[ $1 == /* ]]; then echo "$1"; else echo "$PWD/$1"; fi; }
DATA=$(absolute "${DATA:-$REPO/data}")
OUTPUT=$(absolute "${OUTPUT:-$REPO/output}")
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$REPO/.venv/bin/python
    [[ -x $PYTHON ]] || PYTHON=python3
fi

usage() {
    echo "usage: $(basename "$0") $1" >&2
    echo "data sets: $(dataset_names)" >&2
    exit 2
}

dataset_names() {
    (cd "$REPO/configs/datasets" && ls ./*.yaml) | sed 's|^\./||; s|\.yaml$||' | paste -sd ' '
}

check_dataset() {
    [[ -f $REPO/configs/datasets/$1.yaml ]] && return
    echo "error: unknown data set '$1'; allowed: $(dataset_names)" >&2
    exit 2
}

# variant TRAINER DEFAULT [DATASET]: the variant of the settings; ImageNet may have its own.
variant() {
    local default=$2
    local imagenet=$REPO/configs/trainers/$1/vit_b16_imagenet.yaml
    [[ ${3:-} == imagenet && -f $imagenet ]] && default=vit_b16_imagenet
    [[ -f $REPO/configs/trainers/$1/$default.yaml ]] || default=vit_b16
    echo "${CFG:-$default}"
}

# seeds [SEED ...]: those given, else 1 2 3.
seeds() {
    local seed
    for seed in "$@"; do
        [[ $seed =~ ^[0-9]+$ ]] && continue
        echo "error: a seed is a whole number, not '$seed'" >&2
        return 2
    done
    echo "${*:-1 2 3}"
}

is_finished() {
    grep -qs '"complete": true' "$1/results.json"
}

# run TRAINER CFG DATASET SEED DIRECTORY [FLAG ...] -- KEY VALUE ...
run() {
    local trainer=$1 cfg=$2 dataset=$3 seed=$4 directory=$5
    shift 5
    if is_finished "$directory"; then
        echo "finished already: $directory"
        return
    fi
    local flags=()
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    [[ -z ${BACKBONE:-} ]] || flags+=(--backbone "$BACKBONE")
    # shellcheck disable=SC2086  # OPTS holds several words
    (cd "$REPO" && exec "$PYTHON" train.py --root "$DATA" --seed "$seed" --trainer "$trainer" \
        --dataset-config-file "configs/datasets/$dataset.yaml" \
        --config-file "configs/trainers/$trainer/$cfg.yaml" \
        --output-dir "$directory" ${flags[@]+"${flags[@]}"} "$@" ${OPTS:-})
}

# take_dataset_and_seeds DATASET [SEED ...]: sets the caller's `dataset` and `all` (the seeds).
take_dataset_and_seeds() {
    [[ $# -ge 1 ]] || usage "DATASET [SEED ...]"
    dataset=$1
    check_dataset "$dataset"
    shift
    all=$(seeds "$@")
}

# base2new_train TRAINER DATASET [SEED ...]: train on the base classes and test on them.
base2new_train() {
    local trainer=$1 dataset all cfg seed shots=${SHOTS:-16}
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16 "$dataset")
    for seed in $all; do
        run "$trainer" "$cfg" "$dataset" "$seed" \
            "$OUTPUT/base2new/train_base/$dataset/shots_$shots/$trainer/$cfg/seed$seed" -- \
            TASK B2N DATASET.NUM_SHOTS "$shots" DATASET.SUBSAMPLE_CLASSES base
    done
}

# base2new_test TRAINER DATASET [SEED ...]: test the runs of base2new_train on the new classes.
base2new_test() {
    local trainer=$1 dataset all cfg seed shots=${SHOTS:-16} tail
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16 "$dataset")
    tail=$dataset/shots_$shots/$trainer/$cfg
    for seed in $all; do
        run "$trainer" "$cfg" "$dataset" "$seed" "$OUTPUT/base2new/test_new/$tail/seed$seed" \
            --eval-only --model-dir "$OUTPUT/base2new/train_base/$tail/seed$seed" -- \
            TASK B2N DATASET.NUM_SHOTS "$shots" DATASET.SUBSAMPLE_CLASSES new
    done
}

# few_shot TRAINER DATASET [SEED ...]: all classes, with 1, 2, 4, 8 and 16 images each.
few_shot() {
    local trainer=$1 dataset all cfg seed shots
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16_few_shot "$dataset")
    for seed in $all; do
        for shots in ${SHOTS:-1 2 4 8 16}; do
            run "$trainer" "$cfg" "$dataset" "$seed" \
                "$OUTPUT/few_shot/$dataset/shots_$shots/$trainer/$cfg/seed$seed" -- \
                TASK FS DATASET.NUM_SHOTS "$shots"
        done
    done
}

# cross_dataset_train TRAINER [SEED ...]: all classes of ImageNet (or of $SOURCE).
cross_dataset_train() {
    local trainer=$1 all cfg seed shots=${SHOTS:-16} source=${SOURCE:-imagenet}
    check_dataset "$source"
    all=$(seeds "${@:2}")
    cfg=$(variant "$trainer" vit_b16_cross_datasets)
    for seed in $all; do
        run "$trainer" "$cfg" "$source" "$seed" \
            "$OUTPUT/cross_dataset/train_source/$source/shots_$shots/$trainer/$cfg/seed$seed" -- \
            TASK CD DATASET.NUM_SHOTS "$shots"
    done
}

# cross_dataset_test TRAINER DATASET [SEED ...]: test those weights on another data set.
cross_dataset_test() {
    local trainer=$1 dataset all cfg seed shots=${SHOTS:-16} source=${SOURCE:-imagenet}
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16_cross_datasets)
    local tail=shots_$shots/$trainer/$cfg trees=$OUTPUT/cross_dataset
    for seed in $all; do
        run "$trainer" "$cfg" "$dataset" "$seed" "$trees/test_target/$dataset/$tail/seed$seed" \
            --eval-only --model-dir "$trees/train_source/$source/$tail/seed$seed" -- \
            TASK CD DATASET.NUM_SHOTS "$shots"
    done
}

# domain_generalization_test TRAINER [SEED ...]: test them on ImageNet's four variants.
domain_generalization_test() {
    local trainer=$1 dataset
    for dataset in imagenetv2 imagenet_sketch imagenet_a imagenet_r; do
        cross_dataset_test "$trainer" "$dataset" "${@:2}"
    done
}
