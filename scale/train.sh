#!/usr/bin/env bash
# One training by all tasks of a Slurm job, on one machine or several: sbatch --ntasks=4 scale/train.sh
#SBATCH --job-name=digitsum
#SBATCH --ntasks=2
set -euo pipefail
source .venv/bin/activate

export MASTER_ADDR=$(hostname) MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000)) WORLD_SIZE=$SLURM_NTASKS
export MASTER_KEY=$(python -c 'import secrets; print(secrets.token_hex())')
srun --kill-on-bad-exit=1 scale/worker.sh
digitsum verify
