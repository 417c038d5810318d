#!/usr/bin/env bash
# What a launcher starts for each worker: torchrun --nproc-per-node=4 --no-python scale/worker.sh
#
# Worker 0 runs `dvc repro`, or the command that is given, and lets the others go. They train with it. If one fails, the
# launcher has to end the others, as torchrun and srun do.
set -euo pipefail
source .venv/bin/activate

export RANK=${RANK:-${SLURM_PROCID:-}} LOCAL_RANK=${LOCAL_RANK:-${SLURM_LOCALID:-0}}
if [ -z "$RANK" ]; then
    echo "error: RANK is not set: start this with torchrun, srun or another launcher" >&2
    exit 1
fi
if [ "$RANK" != 0 ]; then
    exec python -m digitsum.training
fi
if [ $# = 0 ]; then set -- dvc repro; fi
"$@"
python -m digitsum.training --release
