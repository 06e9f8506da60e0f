#!/bin/sh
# A stranger's program is run where it can do no harm, and then what it did is looked at with nothing of it running. See
# docs/recipes/untrusted-code.md.
#
# PYRO is the command, if it is not the `pyro` in PATH.
set -eu
pyro() { command "${PYRO:-pyro}" --quiet "$@"; }
scratch=$(mktemp -d)
workspace=
trap '[ -z "$workspace" ] || pyro workspace delete "$workspace" >/dev/null; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
"$(dirname "$0")/project.sh" "$scratch"
export TOKEN=of-this-host

workspace=$(pyro workspace create --seed-path "$scratch/repository" --network-policy off --label recipe=untrusted-code --id-only)
status=0
said=$(pyro workspace exec "$workspace" --no-stdin --timeout-seconds 60 -- sh install.sh 2>&1) || status=$?
echo "install.sh: exit status $status: $(printf '%s\n' "$said" | tail -n 1)"

# From here on nothing of it runs: the disk of a stopped workspace is read without starting it.
pyro workspace stop "$workspace" >/dev/null
echo "changed: $(pyro workspace diff "$workspace" | git apply --numstat | cut -f 3 | paste -s -d ' ')"
pyro workspace disk list "$workspace" /etc/profile.d | grep -q tool.sh
echo "left in the system: $(pyro workspace disk read "$workspace" /etc/profile.d/tool.sh --content-only)"
seen=$(pyro workspace disk read "$workspace" bin/.seen --content-only)
case $seen in *"$TOKEN"*) found=yes ;; *) found=no ;; esac
echo "saw a token of this host: $found"
