#!/usr/bin/env bash
# An experiment for each task of a Slurm array, which pushes it to this folder; all machines must reach this folder:
#
#     sbatch --array=0-1 scale/sweep.sh model.fusion=concat "model.fusion=film train.seed=1"
#     dvc exp list     # when the jobs have ended: one for each job?
#SBATCH --job-name=digitsum-sweep
#SBATCH --ntasks=1
set -euo pipefail
experiments=("$@")
exec scale/experiment.sh "${experiments[$SLURM_ARRAY_TASK_ID]}"
