#!/bin/sh
# A failure is reproduced, mended by trial, and the change taken out as a patch that was tried from the start. See
# docs/recipes/repro-and-fix.md.
#
# PYRO is the command, if it is not the `pyro` in PATH.
set -eu
pyro() { command "${PYRO:-pyro}" --quiet "$@"; }
scratch=$(mktemp -d)
workspace=
trap '[ -z "$workspace" ] || pyro workspace delete "$workspace" >/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
"$(dirname "$0")/project.sh" "$scratch"

check() {
  status=0
  said=$(pyro workspace exec "$workspace" --no-stdin -- python3 -B check.py 2>&1) || status=$?
  echo "$1: exit status $status: $(printf '%s\n' "$said" | tail -n 1)"
}
# What stands for somebody who thinks: OLD becomes NEW.
edit() { pyro workspace file edit "$workspace" median.py --old "$1" --new "$2" >/dev/null; }

workspace=$(pyro workspace create --seed-path "$scratch/repository" --label recipe=repro-and-fix --id-only)
check "reproduced"

first="ordered[len(ordered) // 2]"
second="sum(ordered[len(ordered) // 2 - 1 :][:2]) / 2"
third="(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2"
edit "$first" "$second"
check "first attempt"
edit "$second" "$third"
check "second attempt"

# The patch alone must do it, in a workspace where nothing else was tried.
pyro workspace diff "$workspace" --output "$scratch/fix.patch" >/dev/null
pyro workspace reset "$workspace" >/dev/null
pyro workspace patch apply "$workspace" --patch-file "$scratch/fix.patch" >/dev/null
check "the patch alone"

git -C "$scratch/repository" apply "$scratch/fix.patch"
git -C "$scratch/repository" status --short
