#!/usr/bin/env bash
# Experiments on one machine, one at a time on each of its GPUs:
#
#     scale/cards.sh 4 model.fusion=concat "model.fusion=film train.seed=1" train.lr=0.005
#     WORLD_SIZE=1 scale/cards.sh 2 …     # without a GPU: two at a time, each on one core
# One that fails does not stop the others. Needs GNU xargs.
set -euo pipefail
lanes=$1
shift
# dvc exits with 255, at which xargs would stop.
printf '%s\0' "$@" | xargs --null --max-args=1 --max-procs="$lanes" --process-slot-var=CUDA_VISIBLE_DEVICES \
    bash -c 'scale/experiment.sh "$1" || exit 1' --
