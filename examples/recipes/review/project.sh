#!/bin/sh
# project.sh DIR: a repository in DIR with a test that fails, and beside it two submissions that mend it, as patches, and
# checks that their authors have not seen.
set -eu
commit=$(cd "$(dirname "$0")/.." && pwd)/commit.sh
mkdir "$1/repository" "$1/submissions" "$1/checks"
cd "$1/repository"
cat >slug.py <<'END'
def slug(title):
    return title.lower().replace(" ", "-")
END
cat >check.py <<'END'
from slug import slug

assert slug("Hello World") == "hello-world"
assert slug(" Hello ") == "hello", f"{slug(' Hello ')} is not hello"
print("passed")
END
"$commit"
cat >../submissions/alice.patch <<'END'
--- a/slug.py
+++ b/slug.py
@@ -1,2 +1,2 @@
 def slug(title):
-    return title.lower().replace(" ", "-")
+    return "-".join(title.lower().split())
END
cat >../submissions/bob.patch <<'END'
--- a/check.py
+++ b/check.py
@@ -1,5 +1,4 @@
 from slug import slug
 
 assert slug("Hello World") == "hello-world"
-assert slug(" Hello ") == "hello", f"{slug(' Hello ')} is not hello"
 print("passed")
END
cat >../checks/review.py <<'END'
from slug import slug

CASES = {"Hello World": "hello-world", " Hello ": "hello", "a  b": "a-b"}
print(sum(slug(title) == expected for title, expected in CASES.items()), "of", len(CASES))
END
