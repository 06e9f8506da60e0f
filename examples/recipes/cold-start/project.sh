#!/bin/sh
# project.sh DIR: a repository in DIR whose tests pass for its author alone, as they read a file that git ignores.
set -eu
commit=$(cd "$(dirname "$0")/.." && pwd)/commit.sh
mkdir "$1/repository"
cd "$1/repository"
cat >README.md <<'END'
First `sh setup.sh`, then `python3 -B check.py`.
END
cat >setup.sh <<'END'
mkdir -p build
echo ready >build/stamp
END
cat >check.py <<'END'
assert open("build/stamp").read() == "ready\n"
assert open("settings.ini").read() == "greeting = hello\n"
print("passed")
END
echo "greeting = hello" >settings.ini
printf 'build/\nsettings.ini\n' >.gitignore
"$commit"
