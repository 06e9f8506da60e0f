#!/bin/sh
# Runs a command on the files of this git work tree in a workspace, and again after a change, with nothing of it on the host:
#
#   examples/cli.sh make test
#
# PYRO is the command, if it is not the `pyro` in PATH.
set -eu
pyro() { command "${PYRO:-pyro}" "$@"; }
[ $# -gt 0 ] || set -- git status --short

workspace=$(pyro workspace create --seed-path . --gitignore --label example=cli --id-only)
scratch=$(mktemp -d)
# However this ends, nothing is left: traps of signals lead to that of the exit.
trap 'rm -rf "$scratch"; pyro workspace delete "$workspace" >/dev/null' EXIT
trap 'exit 130' INT TERM HUP

pyro workspace exec "$workspace" --no-stdin -- "$@" || echo "exit status $?"

# A change is pushed, not mounted: the workspace sees what was sent, the host nothing of what the workspace does.
echo "Changed at $(date -u +%FT%TZ)." >"$scratch/CHANGED.md"
pyro workspace sync push "$workspace" "$scratch/CHANGED.md"
pyro workspace exec "$workspace" --no-stdin -- cat CHANGED.md
pyro workspace exec "$workspace" --no-stdin -- "$@" || echo "exit status $?"

echo "What was run:"
pyro workspace logs "$workspace"
