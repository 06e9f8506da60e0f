#!/bin/sh
# Does a repository work for somebody who has nothing but its commits and its README? See docs/recipes/cold-start.md.
#
# PYRO is the command, if it is not the `pyro` in PATH.
set -eu
pyro() { command "${PYRO:-pyro}" --quiet "$@"; }
scratch=$(mktemp -d)
workspace=
trap '[ -z "$workspace" ] || pyro workspace delete "$workspace" >/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
"$(dirname "$0")/project.sh" "$scratch"

# How a command ended, and the last line that it printed.
attempt() {
  status=0
  said=$(pyro workspace exec "$workspace" --no-stdin -- sh -c "$1" 2>&1) || status=$?
  echo "$2: exit status $status: $(printf '%s\n' "$said" | tail -n 1)"
}
readme="sh setup.sh && python3 -B check.py"
fresh="git clone -q /workspace /tmp/fresh && cd /tmp/fresh && $readme"
commit="git add -f settings.ini && git -c user.name=Example -c user.email=example@example.org commit -qm Settings"

workspace=$(pyro workspace create --seed-path "$scratch/repository" --label recipe=cold-start --id-only)
attempt "$readme" "as it lies here"

# A machine that nothing was done on yet: what the first attempt left, in the system too, is gone.
pyro workspace reset "$workspace" >/dev/null
attempt "$fresh" "from a fresh clone"

pyro workspace reset "$workspace" >/dev/null
attempt "$commit && $fresh" "with settings.ini committed"
