#!/bin/sh
# project.sh DIR: a repository in DIR with a test that fails.
set -eu
commit=$(cd "$(dirname "$0")/.." && pwd)/commit.sh
mkdir "$1/repository"
cd "$1/repository"
cat >median.py <<'END'
def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
END
cat >check.py <<'END'
from median import median

for values, expected in (([3, 1, 2], 2), ([4, 1, 3, 2], 2.5), ([7], 7)):
    assert median(values) == expected, f"median({values}) is {median(values)}"
print("passed")
END
"$commit"
