package files

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pages lists everything in pages, and checks that each is as long as it may be.
func (g *guest) pages(path string, recursive bool, limit uint32) []Info {
	g.t.Helper()
	var all []Info
	var after []byte
	for {
		page, err := g.List([]byte(path), recursive, limit, after)
		check(g.t, err)
		all = append(all, page.Files...)
		if !page.More {
			return all
		}
		if len(page.Files) != int(limit) {
			g.t.Fatalf("a page of %d, and there are more", len(page.Files))
		}
		after = []byte(strings.TrimPrefix(strings.TrimPrefix(page.Files[limit-1].Path, path), "/"))
	}
}

func paths(infos []Info) []string {
	var all []string
	for _, info := range infos {
		all = append(all, info.Path)
	}
	return all
}

func TestListInPagesIsTheWholeList(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{
		"a/b/c/d": "", "a/b.txt": "", "a/b/z": "", "a-b": "", "a.txt": "", "dir/": "", "z/1": "", "z/2": "", "link -> a": "", "\xff/bad\xfe": "", "ü": "",
	})
	for i := range 50 {
		g.make(map[string]string{fmt.Sprintf("many/f%02d", i): "x"})
	}
	var want []string
	for name := range g.tree() {
		want = append(want, name)
	}
	slices.SortFunc(want, func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
	for _, limit := range []uint32{1, 2, 3, 7, 50, 1000} {
		if got := paths(g.pages("", true, limit)); !slices.Equal(got, want) {
			t.Fatalf("limit %d:\n%q\n%q", limit, got, want)
		}
	}
	var top []string
	for _, name := range want {
		if !strings.Contains(name, "/") {
			top = append(top, name)
		}
	}
	for _, limit := range []uint32{1, 3, 1000} {
		if got := paths(g.pages("", false, limit)); !slices.Equal(got, top) {
			t.Fatalf("limit %d: %q", limit, got)
		}
	}
	if got := paths(g.pages("a/b", true, 2)); !slices.Equal(got, []string{"a/b/c", "a/b/c/d", "a/b/z"}) {
		t.Fatalf("%q", got)
	}
}

func TestListGoesOnBehindWhatHasGone(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"a/1": "", "a/2": "", "b/1": "", "c": ""})
	check(t, os.RemoveAll(g.at("a")))
	page, err := g.List(nil, true, 10, []byte("a/1"))
	check(t, err)
	if got := paths(page.Files); !slices.Equal(got, []string{"b", "b/1", "c"}) {
		t.Fatalf("%q", got)
	}
}

func TestListTellsWhatThereIs(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"file": "12345", "dir/x": "", "link -> nowhere": "", "to-dir -> dir": ""})
	check(t, unix.Mkfifo(g.at("fifo"), 0o600))
	check(t, os.Chmod(g.at("file"), 0o751))
	byName := map[string]Info{}
	for _, info := range g.pages("", false, 100) {
		byName[info.Path] = info
	}
	if f := byName["file"]; f.Type != File || f.Size != 5 || f.Mode != 0o751 || f.Modified.Sec == 0 {
		t.Fatalf("%+v", f)
	}
	if l := byName["link"]; l.Type != Symlink || l.Target != "nowhere" {
		t.Fatalf("%+v", l)
	}
	if byName["dir"].Type != Directory || byName["fifo"].Type != Other || byName["to-dir"].Target != "dir" {
		t.Fatalf("%+v", byName)
	}
	for path, want := range map[string][]string{"file": {"file"}, "link": {"link"}, "to-dir": {"to-dir/x"}, "fifo": {"fifo"}} {
		if got := paths(g.pages(path, true, 10)); !slices.Equal(got, want) {
			t.Fatalf("%s: %q", path, got)
		}
	}
	_, err := g.List(nil, false, 0, nil)
	refused(t, err, Invalid, "")
	_, err = g.List(nil, false, ListLimit+1, nil)
	refused(t, err, Invalid, "")
}

func TestListIsBoundedWhateverADirectoryHolds(t *testing.T) {
	g := newGuest(t)
	check(t, os.Mkdir(g.at("wide"), 0o755))
	const count = 20_000
	for i := range count {
		check(t, os.WriteFile(g.at(fmt.Sprintf("wide/%0100d", i)), nil, 0o644))
	}
	page, err := g.List([]byte("wide"), false, ListLimit, nil)
	check(t, err)
	if len(page.Files) != ListLimit || !page.More || !strings.HasSuffix(page.Files[999].Path, "000999") {
		t.Fatalf("%d, %v", len(page.Files), page.More)
	}
	// Deeper than any path that the kernel takes at once.
	at, err := unix.Open(g.at(""), unix.O_DIRECTORY, 0)
	check(t, err)
	for range 50 {
		name := strings.Repeat("d", 200)
		check(t, unix.Mkdirat(at, name, 0o755))
		next, err := unix.Openat(at, name, unix.O_DIRECTORY, 0)
		check(t, err)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	page, err = g.List(nil, true, 40, nil)
	check(t, err)
	if len(page.Files) != 40 || !page.More {
		t.Fatalf("%d, %v", len(page.Files), page.More)
	}
}
