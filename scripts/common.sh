# What all scripts share: settings from the environment, and python -m tools.sweep, which knows the
# protocols.
#
# From the environment:
#   DATA      folder of the data sets            (default: data/ of this repository)
#   OUTPUT    folder of the runs                 (default: output/ of this repository)
#   CFG       variant in configs/trainers/<Trainer>/, without .yaml
#   BACKBONE  CLIP's name, a weights file or 'small'  (default: what the variant says)
#   SHOTS     images per class                   (default: 16; few-shot: "1 2 4 8 16")
#   OPTS      more options, "KEY VALUE ..."
#   TAG       a name for what CFG, BACKBONE and OPTS say: <cfg>@<tag> in the folders of the runs
#   SOURCE    cross-dataset: the data set that is trained on  (default: imagenet)
#   PYTHON    the interpreter                    (default: .venv's, else python3)
#
# A finished run is skipped, an unfinished one goes on from its last checkpoint. A folder that holds
# a run with other settings is refused: give yours a TAG. SIGTERM, SIGUSR1 and Ctrl-C end the script
# after the run has saved: with 75, or 130 for Ctrl-C.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DATA=${DATA:-$REPO/data} OUTPUT=${OUTPUT:-$REPO/output}
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$REPO/.venv/bin/python
    [[ -x $PYTHON ]] || PYTHON=python3
fi
export PYTHON PYTHONPATH=$REPO${PYTHONPATH:+:$PYTHONPATH}

# sweep PROTOCOL TRAINER [FLAG ...] [-- KEY VALUE ...]: becomes the sweep, which signals then reach.
sweep() {
    local protocol=$1 flags=(--methods "$2")
    shift 2
    while [[ $# -gt 0 && $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    # shellcheck disable=SC2086  # SHOTS and OPTS hold several words
    exec "$PYTHON" -m tools.sweep "$protocol" "${flags[@]}" \
        ${CFG:+--cfg "$CFG"} ${BACKBONE:+--backbone "$BACKBONE"} ${SOURCE:+--source "$SOURCE"} \
        ${TAG:+--tag "$TAG"} ${SHOTS:+--shots $SHOTS} -- ${OPTS:-} "${@:2}"
}

# methods: the folders of methods beside this file.
methods() { (cd "$REPO/scripts" && ls -d -- */ | grep -v '^all/' | tr -d / | paste -sd ' ' -); }

# of_dataset PROTOCOL TRAINER PART DATASET [SEED ...]: one after another, up to the first failure.
of_dataset() {
    if [[ $# -lt 4 ]]; then
        echo "usage: $(basename "$0") DATASET [SEED ...]" >&2
        echo "data sets: $(cd "$REPO/configs/datasets" && ls -- *.yaml | sed 's|\.yaml$||' | paste -sd ' ' -)" >&2
        exit 2
    fi
    local seeds=("${@:5}")
    [[ $# -gt 4 ]] || seeds=(1 2 3)
    sweep "$1" "$2" --part "$3" --datasets "$4" --seeds "${seeds[@]}" --on foreground
}

# Of one trainer:
base2new_train() { of_dataset base2new "$1" train "${@:2}"; }          # DATASET [SEED ...]
base2new_test() { of_dataset base2new "$1" test "${@:2}"; }            # DATASET [SEED ...]
few_shot() { of_dataset few_shot "$1" train "${@:2}"; }                # DATASET [SEED ...]
cross_dataset_train() {                                                # [SEED ...]
    of_dataset cross_dataset "$1" train "${SOURCE:-imagenet}" "${@:2}"
}
cross_dataset_test() { of_dataset cross_dataset "$1" test "${@:2}"; }  # DATASET [SEED ...]
domain_generalization_test() {                                         # [SEED ...]
    local trainer=$1 seeds=("${@:2}")
    [[ $# -gt 1 ]] || seeds=(1 2 3)
    sweep cross_dataset "$trainer" --part test --on foreground --seeds "${seeds[@]}" \
        --datasets imagenetv2 imagenet_sketch imagenet_a imagenet_r
}
