package patch

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
)

// memory is a tree of files and links.
type memory struct {
	t     *testing.T
	files map[string]Entry
	data  map[string][]byte
	// aside counts what is kept aside and was not dropped.
	aside int
}

func newMemory(t *testing.T) *memory {
	m := &memory{t: t, files: map[string]Entry{"d": {Type: Directory}, "d/e": {Type: Directory}}, data: map[string][]byte{}}
	for path, content := range map[string]string{"f": "one\ntwo\nthree\n", "d/g": "one\r\ntwo\r\n", "d/e/h": "x", "empty": ""} {
		m.files[path], m.data[path] = Entry{Type: File, Permissions: 0o644, Size: int64(len(content))}, []byte(content)
	}
	m.files["l"], m.data["l"] = Entry{Type: Link, Size: 1}, []byte("f")
	m.files["fifo"] = Entry{Type: Other}
	return m
}

func (m *memory) Look(path string) (Entry, error) {
	if err := checkName(path); err != nil {
		m.t.Fatalf("looked at %q: %v", path, err)
	}
	return m.files[path], nil
}

func (m *memory) Read(path string) ([]byte, error) {
	if kind := m.files[path].Type; kind != File && kind != Link {
		m.t.Fatalf("read %q, which is none", path)
	}
	return bytes.Clone(m.data[path]), nil
}

func (m *memory) Only(path string, names map[string]bool) (bool, error) {
	for name, entry := range m.files {
		if strings.HasPrefix(name, path+"/") && entry.Type != Directory && !names[name] {
			return false, nil
		}
	}
	return true, nil
}

type aside struct {
	m       *memory
	content []byte
	dropped bool
}

func (a *aside) Drop() {
	if a.dropped {
		a.m.t.Fatal("dropped twice")
	}
	a.dropped = true
	a.m.aside--
}

func (m *memory) Stage(path string, kind Type, permissions uint32, content []byte) (Staged, error) {
	if kind != File && kind != Link || permissions&^0o7777 != 0 {
		m.t.Fatalf("staged %q as %v with %o", path, kind, permissions)
	}
	m.aside++
	return &aside{m: m, content: content}, nil
}

var seeds = []string{
	"--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n",
	"diff --git a/f b/f\nold mode 100644\nnew mode 100755\nindex 1..2\n--- a/f\n+++ b/f\n@@ -2 +2,2 @@ one\n two\n+more\n\\ No newline at end of file\n",
	"diff --git a/f b/n\nsimilarity index 90%\nrename from f\nrename to n\n--- a/f\n+++ b/n\n@@ -1,3 +1,2 @@\n-one\n two\n three\n",
	"diff --git a/f b/c\nsimilarity index 100%\ncopy from f\ncopy to c\ndiff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-one\n-two\n-three\n",
	"diff --git a/d/e/h b/d/e/h\ndeleted file mode 100644\n--- a/d/e/h\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\ndiff --git a/d/e b/d/e\nnew file mode 100644\n--- /dev/null\n+++ b/d/e\n@@ -0,0 +1 @@\n+y\n",
	"diff --git a/l b/l\nindex 1..2 120000\n--- a/l\n+++ b/l\n@@ -1 +1 @@\n-f\n\\ No newline at end of file\n+d\n\\ No newline at end of file\n",
	"diff --git a/bin b/bin\nnew file mode 100644\nindex 0000000000000000000000000000000000000000..b66efb8a8c2ac17a1e1a3a3e5fd6e3e5a1b3a1b3\nGIT binary patch\nliteral 3\nKcmZQzWMT#Y01f~L\n\nliteral 0\nHcmV?d00001\n\n",
	"diff --git \"a/\\303\\274\" \"b/\\303\\274\"\nnew file mode 100644\nindex 0..1\n--- /dev/null\n+++ \"b/\\303\\274\"\n@@ -0,0 +1 @@\n+x\n",
	"--- ../f\n+++ ../f\n@@ -1 +1 @@\n-x\n+y\n", "@@ -1 +1 @@\n", "diff --git \n", "",
}

// FuzzParse: whatever a patch is, it is understood or refused with a problem, and its names stay below the tree.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		changes, err := parse(text)
		var refused *Problem
		if err != nil && (!errors.As(err, &refused) || refused.Why == "") {
			t.Fatalf("no problem: %v", err)
		}
		end := 0
		for _, c := range changes {
			at := bytes.Index(text[end:], c.section)
			if at < 0 {
				t.Fatal("a section is none of the patch, or they are not in order")
			}
			end += at + len(c.section)
			for _, name := range []string{c.oldName, c.newName} {
				if err == nil && name != "" && checkName(c.plain(name)) != nil {
					t.Fatalf("the name %q was let through", name)
				}
			}
		}
	})
}

// FuzzApply: whatever a patch is, the tree stays as it is and what is kept aside is what the plan has.
func FuzzApply(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m := newMemory(t)
		before := maps.Clone(m.files)
		plan, err := Apply(context.Background(), text, m)
		if !maps.Equal(before, m.files) {
			t.Fatal("the tree was changed")
		}
		if err != nil {
			var refused *Problem
			if !errors.As(err, &refused) {
				t.Fatalf("no problem: %v", err)
			}
			if m.aside != 0 {
				t.Fatalf("%d are still kept aside after %v", m.aside, err)
			}
			return
		}
		if m.aside != len(plan.Made) || len(plan.Outcomes) == 0 {
			t.Fatalf("%d are kept aside for %d names, %d outcomes", m.aside, len(plan.Made), len(plan.Outcomes))
		}
		seen := map[string]bool{}
		for _, made := range plan.Made {
			if seen[made.Path] || checkName(made.Path) != nil {
				t.Fatalf("%q is made twice or cannot be", made.Path)
			}
			seen[made.Path] = true
		}
		for _, path := range plan.Removed {
			if seen[path] {
				t.Fatalf("%q goes and comes", path)
			}
		}
		plan.Drop()
	})
}
