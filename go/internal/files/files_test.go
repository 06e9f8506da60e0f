package files

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteMakesParentsAndKeepsModes(t *testing.T) {
	g := newGuest(t)
	written, err := g.write("a/b/c.txt", "one")
	check(t, err)
	if !written.Created || written.Info.Path != "a/b/c.txt" || written.Info.Mode != 0o644 || written.Info.Size != 3 {
		t.Fatalf("written: %+v", written)
	}
	for _, mode := range []os.FileMode{0o755, 0o600, 0o666, 0o444, 0o4755 & 0o777, 0o000} {
		check(t, os.Chmod(g.at("a/b/c.txt"), mode))
		check(t, unix.Chmod(g.at("a/b/c.txt"), uint32(mode)|0o1000))
		written, err = g.write("/workspace/a/b/../b/c.txt", "two")
		check(t, err)
		var stat unix.Stat_t
		check(t, unix.Stat(g.at("a/b/c.txt"), &stat))
		if written.Created || stat.Mode&0o7777 != uint32(mode)|0o1000 || written.Info.Mode != stat.Mode&0o7777 {
			t.Fatalf("mode %o became %o, and %o was told", mode, stat.Mode&0o7777, written.Info.Mode)
		}
	}
}

func TestPathsThatLeaveAreRefused(t *testing.T) {
	g := newGuest(t)
	outside := t.TempDir()
	check(t, os.WriteFile(outside+"/secret", []byte("secret"), 0o644))
	g.make(map[string]string{
		"in/file": "inside", "up -> ../..": "", "abs -> " + outside: "", "file-out -> " + outside + "/secret": "",
		"chain -> up": "", "loop -> loop": "", "dangling-out -> ../nothing": "", "climb -> in/../../..": "",
	})
	for _, path := range []string{
		"../x", "/etc/passwd", "/workspacex", "a/../../x", "up/x", "abs/secret", "abs/new", "file-out", "chain/x", "dangling-out", "climb/x",
	} {
		_, err := g.Read([]byte(path), Window{Max: 10})
		refused(t, err, Outside, "")
		_, err = g.write(path, "x")
		refused(t, err, Outside, "")
		_, err = g.edit(path, "s", "x", false)
		refused(t, err, Outside, "")
	}
	_, err := g.Read([]byte("loop"), Window{Max: 10})
	refused(t, err, Outside, "symbolic links")
	_, err = g.write("loop", "x")
	refused(t, err, Outside, "")
	_, err = g.List([]byte("abs"), true, 10, nil)
	refused(t, err, Outside, "")
	if tree := treeOf(t, outside); len(tree) != 1 || !strings.HasSuffix(tree["secret"], " secret") {
		t.Fatalf("outside there is now %v", tree)
	}
}

func TestLinksThatStayAreFollowed(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{
		"real/file": "one", "link -> real/file": "", "dir -> real": "", "abs -> /workspace/real": "", "abs-file -> /workspace/dir/file": "",
		"deep/up -> ../abs": "", "new -> real/made": "",
	})
	for i, path := range []string{"link", "dir/file", "abs/file", "abs-file", "deep/up/file"} {
		text := fmt.Sprint("text ", i)
		if _, err := g.write(path, text); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		part, err := g.Read([]byte(path), Window{Max: 100})
		check(t, err)
		if string(part.Content) != text || g.content("real/file") != text || part.Info.Path != path {
			t.Fatalf("%s: %q, %q", path, part.Content, g.content("real/file"))
		}
	}
	_, err := g.write("new", "made")
	check(t, err)
	if g.content("real/made") != "made" {
		t.Fatal("a link to nothing was not followed")
	}
	for _, link := range []string{"link", "new", "abs-file"} {
		if info, err := os.Lstat(g.at(link)); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Fatalf("%s is no link any more: %v", link, err)
		}
	}
}

func TestWhatIsNoFile(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"dir/x": "", "file": "text"})
	check(t, unix.Mkfifo(g.at("fifo"), 0o644))
	check(t, unix.Mknod(g.at("device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(t, err)
	defer unix.Close(fd)
	wd, _ := os.Getwd()
	check(t, os.Chdir(g.at("")))
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"}))
	check(t, os.Chdir(wd))
	before := len(g.tree())
	for path, says := range map[string]string{
		"dir": "is a directory", "": "is a directory", ".": "is a directory", "fifo": "is a fifo", "device": "device", "socket": "socket", "file/x": "no directory",
	} {
		_, err := g.Read([]byte(path), Window{Max: 10})
		refused(t, err, WrongKind, says)
		_, err = g.write(path, "x")
		refused(t, err, WrongKind, says)
		_, err = g.edit(path, "x", "y", false)
		refused(t, err, WrongKind, says)
	}
	for _, path := range []string{"none", "dir/none", "none/none"} {
		_, err := g.Read([]byte(path), Window{Max: 10})
		refused(t, err, Missing, "there is no /workspace/"+path)
		_, err = g.edit(path, "x", "y", false)
		refused(t, err, Missing, "")
		_, err = g.List([]byte(path), false, 10, nil)
		refused(t, err, Missing, "")
	}
	_, err = g.write(strings.Repeat("n", 256), "x")
	refused(t, err, Invalid, "longer")
	_, err = g.write("a\x00b", "x")
	refused(t, err, Invalid, "zero byte")
	if now := len(g.tree()); now != before {
		t.Fatalf("%d names have become %d", before, now)
	}
}

func TestParentsOfARefusedWriteAreGone(t *testing.T) {
	g := newGuest(t)
	_, err := g.write("a/b/"+strings.Repeat("n", 256), "x")
	refused(t, err, Invalid, "")
	if tree := g.tree(); len(tree) != 0 {
		t.Fatalf("left: %v", tree)
	}
}

func TestReadByOffset(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"file": "0123456789", "empty": ""})
	for _, one := range []struct {
		offset  uint64
		max     uint32
		content string
		more    bool
	}{{0, 10, "0123456789", false}, {0, 9, "012345678", true}, {3, 4, "3456", true}, {9, 5, "9", false}, {10, 5, "", false}} {
		part, err := g.Read([]byte("file"), Window{Offset: one.offset, Max: one.max})
		check(t, err)
		if string(part.Content) != one.content || part.More != one.more || part.Offset != one.offset {
			t.Fatalf("%+v: %+v", one, part)
		}
	}
	_, err := g.Read([]byte("file"), Window{Offset: 11, Max: 5})
	refused(t, err, Invalid, "has 10 bytes")
	_, err = g.Read([]byte("file"), Window{Offset: 1 << 63, Max: 5})
	refused(t, err, Invalid, "beyond the end")
	_, err = g.Read([]byte("file"), Window{Max: ReadLimit + 1})
	refused(t, err, Limit, "")
	part, err := g.Read([]byte("empty"), Window{Max: 5})
	check(t, err)
	if len(part.Content) != 0 || part.More {
		t.Fatalf("%+v", part)
	}
}

func TestReadOfAHugeFile(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"huge": "begin\n"})
	check(t, os.Truncate(g.at("huge"), 2<<30))
	part, err := g.Read([]byte("huge"), Window{Offset: 2<<30 - 5, Max: ReadLimit})
	check(t, err)
	if len(part.Content) != 5 || part.More || part.Info.Size != 2<<30 {
		t.Fatalf("%d bytes, %+v", len(part.Content), part.Info)
	}
	part, err = g.Read([]byte("huge"), Window{Max: 6, FirstLine: 1, LastLine: 1})
	check(t, err)
	if string(part.Content) != "begin\n" || part.More {
		t.Fatalf("%q", part.Content)
	}
	_, err = g.Read([]byte("huge"), Window{Max: 10, FirstLine: 3})
	refused(t, err, Limit, "lines are counted")
	_, err = g.edit("huge", "begin", "end", false)
	refused(t, err, Limit, "")
}

func TestReadByLines(t *testing.T) {
	g := newGuest(t)
	lines := make([]string, 0, 100_000)
	for i := 1; i <= cap(lines); i++ {
		lines = append(lines, fmt.Sprintf("line %d\n", i))
	}
	g.make(map[string]string{"file": strings.Join(lines, ""), "open": "one\ntwo", "empty": ""})
	read := func(path string, first, last uint64, max uint32) Part {
		t.Helper()
		part, err := g.Read([]byte(path), Window{Max: max, FirstLine: first, LastLine: last})
		check(t, err)
		return part
	}
	for _, one := range []struct{ first, last uint64 }{{1, 1}, {2, 4}, {99_999, 100_000}, {40_000, 60_000}, {0, 3}, {99_990, 0}, {99_990, 200_000}} {
		part := read("file", one.first, one.last, ReadLimit)
		first, last := max(one.first, 1), one.last
		if last == 0 || last > 100_000 {
			last = 100_000
		}
		want := strings.Join(lines[first-1:last], "")
		before := strings.Join(lines[:first-1], "")
		if string(part.Content) != want || part.More || part.Offset != uint64(len(before)) {
			t.Fatalf("lines %v: %d bytes at %d, not %d at %d", one, len(part.Content), part.Offset, len(want), len(before))
		}
	}
	if part := read("file", 5, 0, 10); string(part.Content) != "line 5\nlin" || !part.More || part.Offset != 28 {
		t.Fatalf("%+v", part)
	}
	if part := read("file", 5, 5, 7); string(part.Content) != "line 5\n" || part.More {
		t.Fatalf("%+v", part)
	}
	if part := read("open", 2, 2, 10); string(part.Content) != "two" || part.More {
		t.Fatalf("%+v", part)
	}
	if part := read("empty", 1, 0, 10); len(part.Content) != 0 || part.More {
		t.Fatalf("%+v", part)
	}
	for path, says := range map[string]string{"file": "has 100000 lines", "open": "has 2 lines", "empty": "has 0 lines"} {
		_, err := g.Read([]byte(path), Window{Max: 10, FirstLine: 100_001})
		refused(t, err, Invalid, says)
	}
	_, err := g.Read([]byte("file"), Window{Max: 10, FirstLine: 5, LastLine: 4})
	refused(t, err, Invalid, "are none")
}

func TestEdit(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"file": "one\ntwo\nthree\ntwo\n"})
	check(t, os.Chmod(g.at("file"), 0o755))
	edited, err := g.edit("file", "three\n", "3\n", false)
	check(t, err)
	if edited.Replaced != 1 || !reflect.DeepEqual(edited.Lines, []uint64{3}) || edited.Info.Mode != 0o755 {
		t.Fatalf("%+v", edited)
	}
	_, err = g.edit("file", "two", "2", false)
	if refusal := refused(t, err, Ambiguous, "2 times"); !reflect.DeepEqual(refusal.Lines, []uint64{2, 4}) {
		t.Fatalf("%+v", refusal)
	}
	edited, err = g.edit("file", "two", "2", true)
	check(t, err)
	if edited.Replaced != 2 || g.content("file") != "one\n2\n3\n2\n" {
		t.Fatalf("%+v, %q", edited, g.content("file"))
	}
	_, err = g.edit("file", "four", "4", true)
	refused(t, err, Unfound, "is not in")
	_, err = g.edit("file", "", "4", true)
	refused(t, err, Invalid, "empty")

	g.make(map[string]string{"crlf": "a\r\nb\r\n", "tabs": "if x {\n\tgo()\n}\nif x {\n\tgo()\n}\n"})
	_, err = g.edit("crlf", "a\nb\n", "c\n", false)
	if refusal := refused(t, err, Unfound, "CR LF"); !reflect.DeepEqual(refusal.Lines, []uint64{1}) {
		t.Fatalf("%+v", refusal)
	}
	_, err = g.edit("tabs", "if x {\n    go()\n", "", false)
	if refusal := refused(t, err, Unfound, "white space"); !reflect.DeepEqual(refusal.Lines, []uint64{1, 4}) {
		t.Fatalf("%+v", refusal)
	}
	many := strings.Repeat("x\n", 1000)
	g.make(map[string]string{"many": many})
	_, err = g.edit("many", "x", "y", false)
	if refusal := refused(t, err, Ambiguous, "1000 times"); len(refusal.Lines) != 20 || refusal.Count != 1000 {
		t.Fatalf("%+v", refusal)
	}
	_, err = g.edit("many", "x", strings.Repeat("y", 20_000), true)
	refused(t, err, Limit, "")
	if g.content("many") != many {
		t.Fatal("a refused edit changed the file")
	}
}

func TestChangesAreMadeOnce(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"file": "a"})
	for range 3 {
		edited, err := g.Edit(timed(t), "same", []byte("file"), []byte("a"), []byte("aa"), false)
		check(t, err)
		if edited.Replaced != 1 {
			t.Fatalf("%+v", edited)
		}
	}
	if g.content("file") != "aa" {
		t.Fatalf("%q", g.content("file"))
	}
	// A refusal is an outcome too; what was given up before it began is none.
	for range 2 {
		_, err := g.Edit(timed(t), "refused", []byte("file"), []byte("b"), []byte("c"), false)
		refused(t, err, Unfound, "")
	}
	release, err := g.places.Hold(timed(t))
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := g.Edit(ctx, "later", []byte("file"), []byte("aa"), []byte("b"), false); err == nil {
		t.Fatal("changed while the workspace was held")
	}
	release()
	_, err = g.Edit(timed(t), "later", []byte("file"), []byte("aa"), []byte("b"), false)
	check(t, err)
	if g.content("file") != "b" {
		t.Fatalf("%q", g.content("file"))
	}
	_, err = g.Edit(timed(t), "not an id", []byte("file"), []byte("b"), []byte("c"), false)
	refused(t, err, Invalid, "request_id")
}

func TestEditsAtOnceAreNotLost(t *testing.T) {
	g := newGuest(t)
	const editors, rounds = 8, 25
	var begin strings.Builder
	for i := range editors {
		fmt.Fprintf(&begin, "%d: 0\n", i)
	}
	g.make(map[string]string{"counts": begin.String()})
	var group sync.WaitGroup
	for editor := range editors {
		group.Go(func() {
			for round := range rounds {
				old, new := fmt.Sprintf("%d: %d\n", editor, round), fmt.Sprintf("%d: %d\n", editor, round+1)
				_, err := g.Edit(context.Background(), fmt.Sprintf("e%d_%d", editor, round), []byte("counts"), []byte(old), []byte(new), false)
				if err != nil {
					t.Errorf("%q: %v", old, err)
				}
			}
		})
	}
	group.Wait()
	if want := strings.ReplaceAll(begin.String(), ": 0\n", fmt.Sprintf(": %d\n", rounds)); g.content("counts") != want {
		t.Fatalf("%s", g.content("counts"))
	}
}

func TestWhoReadsSeesTheOldOrTheNewFile(t *testing.T) {
	g := newGuest(t)
	versions := map[string]bool{}
	for i := range 4 {
		versions[strings.Repeat(string(rune('a'+i)), 100_000*(i+1))] = true
	}
	g.make(map[string]string{"file": strings.Repeat("a", 100_000)})
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			data, err := os.ReadFile(g.at("file"))
			if err != nil || !versions[string(data)] {
				t.Errorf("%d bytes, %v", len(data), err)
				return
			}
		}
	})
	for range 30 {
		for version := range versions {
			_, err := g.write("file", version)
			check(t, err)
		}
	}
	close(done)
	group.Wait()
}
