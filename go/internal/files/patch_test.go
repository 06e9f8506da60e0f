package files

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pyro.dev/pyro/go/internal/patch"
)

func numbered(from, to int) string {
	var text strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	return text.String()
}

// What git says is between two trees makes of the one the other, and git agrees.
func TestPatchesOfGit(t *testing.T) {
	long := numbered(1, 100)
	binary := strings.Repeat("\x00\x01\x02binary\xff", 500)
	for name, one := range map[string]struct{ before, after map[string]string }{
		"modified":      {map[string]string{"a/f": long}, map[string]string{"a/f": strings.Replace(long, "line 50\n", "changed\nmore\n", 1)}},
		"first line":    {map[string]string{"f": long}, map[string]string{"f": "new\n" + long}},
		"last line":     {map[string]string{"f": long}, map[string]string{"f": long + "new\n"}},
		"added":         {map[string]string{"f": "x"}, map[string]string{"f": "x", "d/e/new": long, "+exec": "#!/bin/sh\n", "empty": ""}},
		"deleted":       {map[string]string{"d/e/f": long, "g": "x", "empty": ""}, map[string]string{"g": "x"}},
		"no newline":    {map[string]string{"a": "x\ny", "b": "x\ny\n", "c": "x\ny"}, map[string]string{"a": "x\ny\n", "b": "x\ny", "c": "x\nz"}},
		"crlf":          {map[string]string{"f": strings.ReplaceAll(long, "\n", "\r\n")}, map[string]string{"f": strings.ReplaceAll(strings.Replace(long, "line 9\n", "nine\n", 1), "\n", "\r\n")}},
		"to crlf":       {map[string]string{"f": long}, map[string]string{"f": strings.ReplaceAll(long, "\n", "\r\n")}},
		"mode":          {map[string]string{"f": long, "+g": long}, map[string]string{"+f": long, "g": long}},
		"mode and text": {map[string]string{"f": long}, map[string]string{"+f": long + "x\n"}},
		"link":          {map[string]string{"l -> a": "", "m -> b": ""}, map[string]string{"l -> c": "", "n -> d/e": ""}},
		"file to link":  {map[string]string{"f": long, "l -> f": ""}, map[string]string{"f -> l": "", "l": long}},
		"binary":        {map[string]string{"b": binary, "gone": binary}, map[string]string{"b": binary[:1000] + "\x00changed" + binary[1000:], "new": binary + "\x00"}},
		"to binary":     {map[string]string{"f": long, "g": binary}, map[string]string{"f": binary, "g": long}},
		"renamed":       {map[string]string{"old/f": long, "x": "y"}, map[string]string{"new/deep/f": strings.Replace(long, "line 3\n", "3\n", 1), "x": "y"}},
		"swapped":       {map[string]string{"a": long, "b": numbered(200, 300)}, map[string]string{"a": numbered(200, 300), "b": long}},
		"copied":        {map[string]string{"a": long}, map[string]string{"a": long + "end\n", "b": long, "c/d": "begin\n" + long}},
		"file to tree":  {map[string]string{"d": long}, map[string]string{"d/f": long, "d/g": "x\n"}},
		"tree to file":  {map[string]string{"d/f": long, "d/e/g": "x\n"}, map[string]string{"d": long}},
		"link to tree":  {map[string]string{"d -> e": "", "e/x": "x\n"}, map[string]string{"d/x": "y\n", "e/x": "x\n"}},
		"tree to link":  {map[string]string{"d/x": "y\n", "e/x": "x\n"}, map[string]string{"d -> e": "", "e/x": "x\n"}},
		"odd names":     {map[string]string{"a b": "1\n", "tab\there": "1\n", "ümlaut": "1\n", "quo\"te": "1\n", "back\\slash": "1\n", "\xff\xfe": "1\n", " lead": "1\n", "new\nline": "1\n"}, map[string]string{"a b": "2\n", "tab\there": "2\n", "ümlaut": "2\n", "quo\"te": "2\n", "back\\slash": "2\n", "\xff\xfe": "2\n", " lead": "2\n", "new\nline": "2\n"}},
		"looks alike":   {map[string]string{"f": "-- a\n++ b\n@@ -1 +1 @@\ndiff --git a/x b/x\n"}, map[string]string{"f": "++ c\n-- a\n@@ -1 +1 @@\n"}},
		"emptied":       {map[string]string{"f": "x\n"}, map[string]string{"f": ""}},
		"filled":        {map[string]string{"f": ""}, map[string]string{"f": "x\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := madeTree(t, one.before), madeTree(t, one.after)
			for _, options := range [][]string{{}, {"-M", "-C", "--find-copies-harder"}, {"-U1"}, {"-U10", "-M"}, {"-D"}} {
				text := gitDiff(t, before, after, options...)
				taken, err := differ(t, before, text)
				if err != nil {
					t.Fatalf("%v: %v\n%s", options, err, text)
				}
				if !taken && !reflect.DeepEqual(options, []string{"-D"}) {
					t.Fatalf("%v: not taken:\n%s", options, text)
				}
				// Backwards it is no patch of this tree, unless nothing but additions is said.
				back := gitDiff(t, after, before, options...)
				if _, err := differ(t, before, back); err != nil {
					t.Fatalf("%v backwards: %v\n%s", options, err, back)
				}
			}
		})
	}
}

func TestPatchesOfDiff(t *testing.T) {
	if _, err := exec.LookPath("diff"); err != nil {
		t.Fatal(err)
	}
	long := numbered(1, 50)
	for name, one := range map[string]struct {
		text  string
		files map[string]string
		want  map[string]string
	}{
		"plain names":                 {"--- f.txt.orig\t2024-01-01 00:00:00.000000000 +0000\n+++ f.txt\t2024-01-02 00:00:00.000000000 +0000\n@@ -1,3 +1,3 @@\n line 1\n-line 2\n+two\n line 3\n", map[string]string{"f.txt": long}, map[string]string{"f.txt": strings.Replace(long, "line 2\n", "two\n", 1)}},
		"of a directory below":        {"--- src/f.txt\n+++ src/f.txt\n@@ -1,3 +1,3 @@\n line 1\n-line 2\n+two\n line 3\n", map[string]string{"src/f.txt": long}, map[string]string{"src/f.txt": strings.Replace(long, "line 2\n", "two\n", 1)}},
		"with labels":                 {"--- a/src/f.txt\n+++ b/src/f.txt\n@@ -1,3 +1,3 @@\n line 1\n-line 2\n+two\n line 3\n", map[string]string{"src/f.txt": long}, map[string]string{"src/f.txt": strings.Replace(long, "line 2\n", "two\n", 1)}},
		"absolute":                    {"--- /workspace/src/f.txt\n+++ /workspace/src/f.txt\n@@ -1,3 +1,3 @@\n line 1\n-line 2\n+two\n line 3\n", map[string]string{"src/f.txt": long}, map[string]string{"src/f.txt": strings.Replace(long, "line 2\n", "two\n", 1)}},
		"new":                         {"--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n", nil, map[string]string{"new.txt": "one\ntwo\n"}},
		"new without saying so":       {"--- old/new.txt\n+++ new/new.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n", nil, map[string]string{"new.txt": "one\ntwo\n"}},
		"new since 1970":              {"--- old/new.txt\t1970-01-01 00:00:00.000000000 +0000\n+++ new/new.txt\t2024-01-02 00:00:00.000000000 +0000\n@@ -0,0 +1 @@\n+one\n", nil, map[string]string{"new.txt": "one\n"}},
		"gone":                        {"--- a/old.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n", map[string]string{"old.txt": "one\ntwo\n"}, map[string]string{}},
		"several, with words between": {"Only in a: x\ndiff -u a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-x\n+y\nsome words\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-x\n+z\n-- \n2.39\n", map[string]string{"f": "x\n", "g": "x\n"}, map[string]string{"f": "y\n", "g": "z\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.make(one.files)
			_, err := g.Patch(timed(t), g.id(), []byte(one.text))
			check(t, err)
			want := plainTree(t, madeTree(t, one.want))
			if difference := compare(want, plainTree(t, g.at(""))); difference != "" {
				t.Fatal(difference)
			}
		})
	}
}

func TestMovedHunks(t *testing.T) {
	long := numbered(1, 300)
	changed := strings.NewReplacer("line 50\n", "fifty\n", "line 150\n", "", "line 250\n", "line 250\nand more\n").Replace(long)
	before := madeTree(t, map[string]string{"f": long})
	text := gitDiff(t, before, madeTree(t, map[string]string{"f": changed}))
	for name, moved := range map[string]string{
		"forwards":  numbered(1000, 1040) + long,
		"backwards": strings.TrimPrefix(long, numbered(1, 40)),
		"both":      strings.Replace(strings.TrimPrefix(long, numbered(1, 40)), "line 200\n", numbered(2000, 2077), 1),
		"twice":     long + long,
		"shuffled":  numbered(240, 300) + numbered(100, 200) + numbered(1, 99),
		"in vain":   strings.Replace(long, "line 148\n", "line 148 \n", 1),
		"at an end": numbered(1, 251),
		"none left": "",
	} {
		if _, err := differ(t, madeTree(t, map[string]string{"f": moved}), text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRejectsSayWhatStandsThere(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"src/f": numbered(1, 100), "src/g": "untouched\n"})
	after := strings.NewReplacer("line 10\n", "ten\n", "line 60\n", "sixty\n").Replace(numbered(1, 100))
	text := gitDiff(t, g.at(""), madeTree(t, map[string]string{"src/f": after, "src/g": "touched\n"}))
	check(t, os.WriteFile(g.at("src/f"), []byte(strings.Replace(numbered(1, 100), "line 59\n", "something else\n", 1)), 0o644))
	before := g.tree()
	_, err := g.Patch(timed(t), g.id(), text)
	refusal := refused(t, err, Reject, "hunk 2 does not fit src/f at line 59")
	if refusal.Path != "src/f" || refusal.Hunk != 2 || refusal.Line != 59 {
		t.Fatalf("%+v", refusal)
	}
	if string(refusal.Expected[0]) != "line 59\n" || string(refusal.Found[0]) != "something else\n" {
		t.Fatalf("%q, %q", refusal.Expected, refusal.Found)
	}
	if difference := compare(before, g.tree()); difference != "" {
		t.Fatal(difference)
	}
	// Twice is once, and said so.
	check(t, os.WriteFile(g.at("src/f"), []byte(after), 0o644))
	_, err = g.Patch(timed(t), g.id(), text)
	refused(t, err, Reject, "applied before")
}

func TestPatchesThatAreRefused(t *testing.T) {
	hunk := "@@ -1 +1 @@\n-x\n+y\n"
	git := func(name string) string {
		return fmt.Sprintf("diff --git a/%s b/%s\n--- a/%s\n+++ b/%s\n%s", name, name, name, name, hunk)
	}
	create := func(name string) string {
		return fmt.Sprintf("diff --git a/%s b/%s\nnew file mode 100644\n--- /dev/null\n+++ b/%s\n@@ -0,0 +1 @@\n+y\n", name, name, name)
	}
	files := map[string]string{"f": "x\n", "dir/x": "x\n", "link -> dir": "", "out -> ..": ""}
	for name, one := range map[string]struct {
		text string
		kind Kind
		says string
	}{
		"nothing":            {"", BadPatch, "no patch"},
		"words":              {"hello\nworld\n", BadPatch, "no patch"},
		"up":                 {git("../f"), Outside, "no path below"},
		"up inside":          {git("dir/../../f"), Outside, "no path below"},
		"absolute":           {"--- /etc/passwd\n+++ /etc/passwd\n" + hunk, Reject, "there is no etc/passwd"},
		"through a link":     {git("link/x"), Outside, "symbolic link link"},
		"made through one":   {create("link/new"), Outside, "symbolic link link"},
		"out through one":    {create("out/new"), Outside, "symbolic link out"},
		"of git's own":       {create(".git/hooks/post-checkout"), Outside, "git's own"},
		"a directory":        {git("dir"), Reject, "is a directory"},
		"a link as a file":   {"diff --git a/link b/link\nindex 1..2 100644\n--- a/link\n+++ b/link\n" + hunk, Reject, "is a symbolic link"},
		"not there":          {git("none"), Reject, "there is no none"},
		"there already":      {create("f"), Reject, "is there already"},
		"below a file":       {create("f/new"), Conflict, "is no directory"},
		"in a directory's":   {create("dir"), Conflict, "not empty"},
		"twice new":          {create("new") + create("new"), BadPatch, "twice"},
		"file and directory": {create("new") + create("new/x"), Conflict, ""},
		"cut":                {strings.TrimSuffix(git("f"), "\n"), BadPatch, "newline at its end"},
		"short hunk":         {"--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-x\n+y\n", BadPatch, "line "},
		"without a file":     {hunk, BadPatch, "no file was named"},
		"a submodule":        {"diff --git a/sub b/sub\nnew file mode 160000\nindex 000..111\n--- /dev/null\n+++ b/sub\n@@ -0,0 +1 @@\n+Subproject commit 1\n", BadPatch, "submodule"},
		"binary not in it":   {"diff --git a/f b/f\nindex 587be6b..975fbec 100644\nBinary files a/f and b/f differ\n", BadPatch, "git diff --binary"},
		"half of it":         {git("f") + git("none"), Reject, "there is no none"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.make(files)
			before := g.tree()
			_, err := g.Patch(timed(t), g.id(), []byte(one.text))
			refused(t, err, one.kind, one.says)
			if difference := compare(before, g.tree()); difference != "" {
				t.Fatal(difference)
			}
			if above, err := os.ReadDir(g.root); err != nil || len(above) != 1 {
				t.Fatalf("%v %v", above, err)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"mod": numbered(1, 20), "gone": "x\n", "old": numbered(50, 90), "turn": "file\n", "mode": "x\n"})
	check(t, os.Chmod(g.at("mod"), 0o640))
	after := madeTree(t, map[string]string{
		"mod": numbered(1, 21), "new": "n\n", "moved": numbered(50, 91), "turn -> mod": "", "+mode": "x\n", "copy": numbered(1, 20),
	})
	outcomes, err := g.Patch(timed(t), g.id(), gitDiff(t, g.at(""), after, "-M", "-C"))
	check(t, err)
	want := []patch.Outcome{
		{Path: "copy", Status: patch.Copied, Type: patch.File, OldPath: "mod"},
		{Path: "gone", Status: patch.Deleted, Type: patch.File},
		{Path: "mod", Status: patch.Modified, Type: patch.File, Text: true},
		{Path: "mode", Status: patch.Modified, Type: patch.File},
		{Path: "moved", Status: patch.Renamed, Type: patch.File, OldPath: "old", Text: true},
		{Path: "new", Status: patch.Added, Type: patch.File, Text: true},
		{Path: "turn", Status: patch.TypeChanged, Type: patch.Link, Text: true},
	}
	if !reflect.DeepEqual(outcomes, want) {
		t.Fatalf("%+v", outcomes)
	}
	if info, err := os.Stat(g.at("mod")); err != nil || info.Mode() != 0o640 {
		t.Fatalf("the mode of a changed file is now %v", info.Mode())
	}
	if _, err := os.Stat(filepath.Join(g.root, ".pyro-transfer")); err == nil {
		t.Fatal("left")
	}
}
