package transfer

import (
	"archive/tar"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzPush sends whatever it is given. Nothing but the workspace may change, a refusal changes nothing at all, and what is
// neither refused nor taken is a fault.
func FuzzPush(f *testing.F) {
	f.Add(archiveOf(f, file("a", "a"), directoryEntry("d", 0o700), symlink("l", "d"), hardlink("h", "a")), uint16(100))
	f.Add(archiveOf(f, symlink("d", ".."), file("d/x", "x")), uint16(7))
	f.Add(archiveOf(f, file("old", "new"), file("dir/old", "new"), file("link/x", "x")), uint16(512))
	f.Add(archiveOf(f, file("../x", "x")), uint16(1))
	f.Fuzz(func(t *testing.T, archive []byte, piece uint16) {
		pushFuzzed(t, archive, int(piece)+1)
	})
}

// FuzzEntries sends archives that are whole, of entries chosen by the bytes: mutations of an archive itself get no further
// than the checksum of a header.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{0, 1, 2, 1, 3, 4, 2, 5, 6, 3, 7, 1})
	f.Add([]byte{2, 0, 9, 0, 15, 1, 1, 2, 3, 3, 14, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		names := []string{"a", "b", "dir", "dir/old", "old", "link", "link/x", "a/b", "a/b/c", "..", ".", "./a", "dir/..", "/a", "dir//b", "b/\xff\n"}
		kinds := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo}
		var entries []entry
		for ; len(script) >= 3 && len(entries) < 40; script = script[3:] {
			name, target := names[int(script[1])%len(names)], names[int(script[2])%len(names)]
			one := entry{tar.Header{Typeflag: kinds[int(script[0])%len(kinds)], Name: name, Mode: int64(script[2]) << 4, ModTime: when}, ""}
			switch one.Typeflag {
			case tar.TypeReg:
				one.content = strings.Repeat("x", int(script[2]))
			case tar.TypeSymlink, tar.TypeLink:
				one.Linkname = target
			case tar.TypeDir:
				one.Name += "/"
			}
			entries = append(entries, one)
		}
		pushFuzzed(t, archiveOf(t, entries...), 4096)
	})
}

func pushFuzzed(t *testing.T, archive []byte, piece int) {
	g := newGuest(t)
	g.write("old", "old")
	g.write("dir/old", "old")
	outside := t.TempDir()
	for _, link := range []string{"link", "dir/link"} {
		if err := os.Symlink(outside, g.at(link)); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, g.at(""))
	_, err := g.pushTo("/workspace", archive, 1<<20, 100, piece)
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		if after := tree(t, g.at("")); !maps.Equal(before, after) {
			t.Errorf("refused (%v), and yet %v", err, after)
		}
	case err != nil:
		t.Fatal(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("outside: %v %v", left, err)
	}
	g.nothingLeft()
	if entries, err := os.ReadDir(filepath.Dir(g.at(""))); err != nil || len(entries) != 1 {
		t.Errorf("beside the workspace: %v %v", entries, err)
	}
}
