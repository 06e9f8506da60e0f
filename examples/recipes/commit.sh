#!/bin/sh
# Makes a git repository of the directory that it is called in, with one commit of what is there. The user's own settings of
# git are left aside.
set -eu
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
git -c init.defaultBranch=main init -q
git add .
git -c user.name=Example -c user.email=example@example.org commit -q -m "First"
