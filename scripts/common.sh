# What all scripts share. A script names its trainer and calls one function of this file.
#
# From the environment:
#   DATA      folder of the data sets            (default: data/ of this repository)
#   OUTPUT    folder of the runs                 (default: output/ of this repository)
#   CFG       variant in configs/trainers/<Trainer>/, without .yaml
#   BACKBONE  CLIP's name, a weights file or 'small'  (default: what the variant says)
#   SHOTS     images per class                   (default: 16; few-shot: "1 2 4 8 16")
#   OPTS      more options, "KEY VALUE ..."
#   SOURCE    cross-dataset: the data set that is trained on  (default: imagenet)
#   PYTHON    the interpreter                    (default: .venv's, else python3)
#
# A finished run is skipped, an unfinished one goes on from its last checkpoint. SIGTERM, SIGUSR1
# and Ctrl-C end the script after the run has saved: with 75, or 130 for Ctrl-C.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$REPO/scripts/signals.sh"
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

# take_dataset DATASET: sets the caller's `dataset` (its name in output paths) and `dataset_yaml`
# from a name in configs/datasets/ or the path of a YAML file of one's own.
take_dataset() {
    dataset=$(basename "$1" .yaml)
    dataset_yaml=$REPO/configs/datasets/$1.yaml
    [[ $1 != *.yaml ]] || dataset_yaml=$1
    [[ -f $dataset_yaml ]] && return
    echo "error: unknown data set '$1'; allowed: a YAML file of your own, or" >&2
    echo "$(dataset_names)" >&2
    exit 2
}

# published TRAINER: the variant that its authors' scripts take, where it is not vit_b16.
published() {
    case $1 in
        CoOp) echo vit_b16_ctxv1 ;;
        CoCoOp) echo vit_b16_c4_ep10_batch1_ctxv1 ;;
        MaPLe) echo vit_b16_c2_ep5_batch4_2ctx ;;
        VPT) echo vit_b16_c2_ep5_batch4_4ctx ;;
        IVLP | PromptSRC) echo vit_b16_c2_ep20_batch4_4+4ctx ;;
        *) echo vit_b16 ;;
    esac
}

# variant TRAINER DEFAULT [DATASET]: the variant of the settings; ImageNet may have its own.
# DEFAULT is vit_b16, or vit_b16_few_shot or the like: what the published variant is, if there
# is one with this ending.
variant() {
    local base default imagenet
    base=$(published "$1")
    default=$base${2#vit_b16}
    imagenet=${base}_imagenet
    if [[ $1 == CoOp ]]; then
        imagenet=vit_b16_ep50_ctxv1
        [[ $2 != vit_b16_cross_datasets ]] || default=$imagenet
    fi
    [[ ${3:-} == imagenet && -f $REPO/configs/trainers/$1/$imagenet.yaml ]] && default=$imagenet
    [[ -f $REPO/configs/trainers/$1/$default.yaml ]] || default=$base
    echo "${CFG:-$default}"
}

# seeds [SEED ...]: those given, else 1 2 3.
seeds() {
    local seed
    for seed in "$@"; do
        [[ $seed =~ ^[0-9]+$ ]] && continue
        echo "error: a seed is a whole number, not '$seed'; give some, as in 1 2 3, or none" >&2
        return 2
    done
    echo "${*:-1 2 3}"
}

is_finished() {
    grep -qs '"complete": true' "$1/results.json"
}

# run TRAINER CFG SEED DIRECTORY [FLAG ...] -- KEY VALUE ...; takes `dataset_yaml` from the caller
run() {
    local trainer=$1 cfg=$2 seed=$3 directory=$4
    shift 4
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
    pass_signals "$PYTHON" "$REPO/train.py" --root "$DATA" --seed "$seed" --trainer "$trainer" \
        --dataset-config-file "$dataset_yaml" \
        --config-file "$REPO/configs/trainers/$trainer/$cfg.yaml" \
        --output-dir "$directory" ${flags[@]+"${flags[@]}"} "$@" ${OPTS:-}
}

# take_dataset_and_seeds DATASET [SEED ...]: sets the caller's `dataset`, `dataset_yaml` and `all`.
take_dataset_and_seeds() {
    [[ $# -ge 1 ]] || usage "DATASET [SEED ...]"
    take_dataset "$1"
    shift
    all=$(seeds "$@")
}

# base2new_train TRAINER DATASET [SEED ...]: train on the base classes and test on them.
base2new_train() {
    local trainer=$1 dataset dataset_yaml all cfg seed shots=${SHOTS:-16}
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16 "$dataset")
    for seed in $all; do
        run "$trainer" "$cfg" "$seed" \
            "$OUTPUT/base2new/train_base/$dataset/shots_$shots/$trainer/$cfg/seed$seed" -- \
            TASK B2N DATASET.NUM_SHOTS "$shots" DATASET.SUBSAMPLE_CLASSES base
    done
}

# base2new_test TRAINER DATASET [SEED ...]: test the runs of base2new_train on the new classes.
base2new_test() {
    local trainer=$1 dataset dataset_yaml all cfg seed shots=${SHOTS:-16} tail
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16 "$dataset")
    tail=$dataset/shots_$shots/$trainer/$cfg
    for seed in $all; do
        run "$trainer" "$cfg" "$seed" "$OUTPUT/base2new/test_new/$tail/seed$seed" \
            --eval-only --model-dir "$OUTPUT/base2new/train_base/$tail/seed$seed" -- \
            TASK B2N DATASET.NUM_SHOTS "$shots" DATASET.SUBSAMPLE_CLASSES new
    done
}

# few_shot TRAINER DATASET [SEED ...]: all classes, with 1, 2, 4, 8 and 16 images each.
few_shot() {
    local trainer=$1 dataset dataset_yaml all cfg seed shots
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16_few_shot "$dataset")
    for seed in $all; do
        for shots in ${SHOTS:-1 2 4 8 16}; do
            run "$trainer" "$cfg" "$seed" \
                "$OUTPUT/few_shot/$dataset/shots_$shots/$trainer/$cfg/seed$seed" -- \
                TASK FS DATASET.NUM_SHOTS "$shots"
        done
    done
}

# cross_dataset_train TRAINER [SEED ...]: all classes of ImageNet (or of $SOURCE).
cross_dataset_train() {
    local trainer=$1 dataset dataset_yaml all cfg seed shots=${SHOTS:-16}
    take_dataset_and_seeds "${SOURCE:-imagenet}" "${@:2}"
    cfg=$(variant "$trainer" vit_b16_cross_datasets)
    for seed in $all; do
        run "$trainer" "$cfg" "$seed" \
            "$OUTPUT/cross_dataset/train_source/$dataset/shots_$shots/$trainer/$cfg/seed$seed" -- \
            TASK CD DATASET.NUM_SHOTS "$shots"
    done
}

# cross_dataset_test TRAINER DATASET [SEED ...]: test those weights on another data set.
cross_dataset_test() {
    local trainer=$1 dataset dataset_yaml all cfg seed shots=${SHOTS:-16} source
    source=$(basename "${SOURCE:-imagenet}" .yaml)
    take_dataset_and_seeds "${@:2}"
    cfg=$(variant "$trainer" vit_b16_cross_datasets)
    local tail=shots_$shots/$trainer/$cfg trees=$OUTPUT/cross_dataset
    for seed in $all; do
        run "$trainer" "$cfg" "$seed" "$trees/test_target/$dataset/$tail/seed$seed" \
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
