# A sweep: many scripts one after another, going on where one fails.
#
# From the environment, besides what scripts/common.sh takes:
#   DATASETS  the data sets   (default: the eleven of the benchmark)
#   SEEDS     the seeds       (default: 1 2 3)

set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$SCRIPTS/signals.sh"
# Targets of the cross-dataset protocol; the other two protocols have ImageNet as well.
TARGETS="caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd \
eurosat ucf101"
VARIANTS="imagenetv2 imagenet_sketch imagenet_a imagenet_r"  # for domain generalisation
SEEDS=${SEEDS:-1 2 3}
failures=()

# method_folder METHOD: the folder of its scripts, or an error that lists the methods.
method_folder() {
    local methods
    methods=$(cd "$SCRIPTS" && ls -d -- */ | grep -v '^all/' | tr -d / | paste -sd ' ' -)
    if [[ $# -ne 1 || ! -f $SCRIPTS/${1:-}/base2new_train.sh ]]; then
        echo "usage: $(basename "$0") METHOD" >&2
        echo "methods: $methods" >&2
        return 2
    fi
    echo "$SCRIPTS/$1"
}

# attempt SCRIPT [ARGUMENT ...]: run it; remember it if it fails, stop if it was stopped.
attempt() {
    local status=0
    echo "=== ${*#"$SCRIPTS"/}"
    pass_signals bash "$@" || status=$?
    case $status in
        0) ;;
        75 | 130) exit "$status" ;;
        *) failures+=("${*#"$SCRIPTS"/}") ;;
    esac
}

# finish: list what failed; the exit status of the sweep.
finish() {
    if [[ ${#failures[@]} -eq 0 ]]; then
        echo "all runs finished"
        return 0
    fi
    echo "${#failures[@]} failed, run the sweep again to repeat them:" >&2
    printf '  %s\n' "${failures[@]}" >&2
    return 1
}
