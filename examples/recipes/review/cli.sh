#!/bin/sh
# Changes of several authors, each tried from the same beginning: what it changes, whether its tests pass, and what checks say
# that its author has not seen. See docs/recipes/review.md.
#
# PYRO is the command, if it is not the `pyro` in PATH.
set -eu
pyro() { command "${PYRO:-pyro}" --quiet "$@"; }
scratch=$(mktemp -d)
workspace=
trap '[ -z "$workspace" ] || pyro workspace delete "$workspace" >/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
"$(dirname "$0")/project.sh" "$scratch"

workspace=$(pyro workspace create --seed-path "$scratch/repository" --label recipe=review --id-only)
for patch in "$scratch"/submissions/*.patch; do
  author=$(basename "$patch" .patch)
  pyro workspace reset "$workspace" >/dev/null
  pyro workspace patch apply "$workspace" --patch-file "$patch" >/dev/null
  status=0
  pyro workspace exec "$workspace" --no-stdin -- python3 -B check.py >"$scratch/said" 2>&1 || status=$?
  files=$(pyro workspace diff "$workspace" | git apply --numstat | cut -f 3 | paste -s -d ' ')

  # Only now come the checks in: nothing of the submission has run beside them before.
  pyro workspace sync push "$workspace" "$scratch/checks" >/dev/null
  score=$(pyro workspace exec "$workspace" --no-stdin -- python3 -B review.py)
  echo "$author: changes $files; its tests: exit status $status: $(tail -n 1 "$scratch/said"); review: $score"
  [ "$score" != "3 of 3" ] || accepted="${accepted:+$accepted }$author"
done
echo "accepted: ${accepted:-none}"
