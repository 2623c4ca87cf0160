# What all scripts share: settings from the environment, and python -m tools.sweep, which knows the
# protocols. METHOD is a trainer's name in any case, also with underscores: MMRL, mmrl_plus.
#
# From the environment:
#   DATA      folder of the data sets            (default: data/ of this repository)
#   OUTPUT    folder of the runs                 (default: output/ of this repository)
#   CFG       variant in configs/trainers/<Trainer>/, without .yaml
#   BACKBONE  CLIP's name, a weights file or 'small'  (default: what the variant says)
#   SHOTS     images per class                   (default: 16; few-shot: "1 2 4 8 16")
#   OPTS      more options, "KEY VALUE ..."
#   TAG       a name for what CFG, BACKBONE and OPTS say: <cfg>@<tag> in the folders of the runs
#   PLUGIN    a file with a method or data set, as --plugin of train.py
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
        ${TAG:+--tag "$TAG"} ${PLUGIN:+--plugin "$PLUGIN"} ${SHOTS:+--shots $SHOTS} -- ${OPTS:-} "${@:2}"
}

# usage ARGUMENTS: says what the script takes, and ends it.
usage() {
    local configs=$REPO/configs
    echo "usage: $(basename "$0") ${1#${method_of_link:+METHOD }}" >&2
    echo "methods: $(cd "$configs/trainers" && ls | paste -sd ' ' -)" >&2
    echo "datasets: $(cd "$configs/datasets" && ls -- *.yaml | sed 's|\.yaml$||' | paste -sd ' ' -)" >&2
    exit 2
}

# one_by_one PROTOCOL PART METHOD DATASET [SEED ...]: one run after another, up to the first failure.
one_by_one() {
    [[ -n ${3:-} && $# -gt 3 ]] || usage "$(sed -n '2s/.*\.sh //p' "$0")"
    local datasets=("$4") seeds=("${@:5}")
    [[ $4 != imagenet-variants ]] || datasets=(imagenetv2 imagenet_sketch imagenet_a imagenet_r)
    [[ $# -gt 4 ]] || seeds=(1 2 3)
    sweep "$1" "$3" --part "$2" --datasets "${datasets[@]}" --seeds "${seeds[@]}" --on foreground
}

# scripts/mmrl/base2new_train.sh DATASET is base2new_train.sh mmrl DATASET: mmrl is a link to by_method/.
called_in=$(cd "$(dirname "$0")" && pwd)
if [[ $(cd "$called_in" && pwd -P) == */by_method ]]; then
    method_of_link=$(basename "$called_in")
    set -- "$method_of_link" "$@"
fi
