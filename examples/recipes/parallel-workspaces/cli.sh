#!/bin/sh
# Several ways to do a thing, each tried in a workspace of its own at the same time, and compared. See
# docs/recipes/parallel-workspaces.md.
#
# PYRO is the command, if it is not the `pyro` in PATH.
set -eu
pyro() { command "${PYRO:-pyro}" --quiet "$@"; }
scratch=$(mktemp -d)
# Clones have the labels of what they were cloned from: one of this run alone finds all of them again.
run="run=$(basename "$scratch")"
trap 'pyro workspace delete --label "$run" --yes >/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
"$(dirname "$0")/project.sh" "$scratch"

# What all need is done once, before they part.
base=$(pyro workspace create --seed-path "$scratch/repository" --label recipe=parallel-workspaces --label "$run" --id-only)
pyro workspace exec "$base" --no-stdin -- sh -c 'mkdir /opt/prepared'

try() {
  workspace=$(pyro workspace clone "$base" --id-only)
  pyro workspace file write "$workspace" total.py --file "$scratch/candidates/$1.py" >/dev/null
  status=0
  said=$(pyro workspace exec "$workspace" --no-stdin -- sh -c 'ls -d /opt/prepared && python3 -B check.py' 2>&1) || status=$?
  lines=$(pyro workspace diff "$workspace" | git apply --numstat | cut -f 1)
  echo "$status $lines $1" >"$scratch/$1.result"
  echo "$1: exit status $status: $(printf '%s\n' "$said" | tail -n 1); lines added: $lines" >"$scratch/$1.said"
}
for candidate in loop formula guess; do
  try "$candidate" &
  echo $! >"$scratch/$candidate.pid"
done
# One after the other: a plain `wait` would say nothing of one that failed.
for candidate in loop formula guess; do
  wait "$(cat "$scratch/$candidate.pid")"
  cat "$scratch/$candidate.said"
done

# The shortest of those that pass.
best=$(cat "$scratch"/*.result | grep '^0 ' | sort -k 2n | head -n 1)
echo "best: ${best##* }"
