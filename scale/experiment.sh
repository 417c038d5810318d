#!/usr/bin/env bash
# One experiment in a clone of its own: scale/experiment.sh model.fusion=concat train.seed=1
#
# It is pushed to REPOSITORY, which is this folder if the variable is not set, with what was changed as its name.
# With a DVC remote, data come from there and results go there. Without one, the clone shares this folder's cache.
# Checkpoints lie in this folder, or in DIGITSUM_CHECKPOINTS: a job that was stopped continues from them.
set -euo pipefail
source .venv/bin/activate

git diff --quiet HEAD || { echo "error: not committed: $(git diff --name-only HEAD | xargs); commit it, the clone has the last commit" >&2; exit 1; }
read -ra changes <<<"$*"
name=$(tr -c 'A-Za-z0-9._=\n' - <<<"${changes[*]}")
repository=${REPOSITORY:-$PWD}
revision=$(git rev-parse HEAD)
export DIGITSUM_CHECKPOINTS=$(realpath -m "${DIGITSUM_CHECKPOINTS:-.dvc/tmp/checkpoints}")

clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
cache=$(dvc cache dir)
git clone --quiet "$repository" "$clone"
cd "$clone"
git checkout --quiet "$revision"
if [ -n "$(dvc remote list)" ]; then
    dvc exp run --pull --allow-missing --name "$name" "${changes[@]/#/--set-param=}"
    dvc exp push --force origin "$name"
else
    dvc cache dir --local "$cache"
    dvc exp run --name "$name" "${changes[@]/#/--set-param=}"
    dvc exp push --force --no-cache origin "$name"
fi
