#!/usr/bin/env bash
# Slurm and munge for the tests, from Debian's or Ubuntu's packages; nothing if they are there.
# Where they are not and cannot be had: one line that says why, and 69.
set -euo pipefail

packages=(slurm-wlm munge)
PATH+=:/usr/sbin:/sbin
has_slurm() {
    command -v munged slurmctld slurmd sbatch srun | wc -l | grep -qx 5
}
cannot() {
    echo "Slurm is not here, and cannot be installed: $1"
    exit 69
}

has_slurm && exit
command -v apt-get >/dev/null || cannot "there is no apt-get (needed: ${packages[*]})"
[[ $(id -u) == 0 ]] || cannot "not root; sudo apt-get install --no-install-recommends ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
    >"$log" 2>&1 || cannot "apt-get: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
has_slurm || cannot "${packages[*]} are installed, but a program is missing"
