#!/bin/sh
# project.sh DIR: a repository in DIR where a function is missing, and beside it three candidates for it.
set -eu
commit=$(cd "$(dirname "$0")/.." && pwd)/commit.sh
mkdir "$1/repository" "$1/candidates"
cd "$1/repository"
cat >total.py <<'END'
def total(n):
    raise NotImplementedError
END
cat >check.py <<'END'
from total import total

for n in (0, 1, 10, 1000):
    assert total(n) == sum(range(n + 1)), f"total({n}) is {total(n)}"
print("passed")
END
"$commit"
cat >../candidates/loop.py <<'END'
def total(n):
    result = 0
    for value in range(n + 1):
        result += value
    return result
END
cat >../candidates/formula.py <<'END'
def total(n):
    return n * (n + 1) // 2
END
cat >../candidates/guess.py <<'END'
def total(n):
    return n * n // 2
END
