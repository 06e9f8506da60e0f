package transfer

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// As in a microVM: the root is an overlay, and what is staged lies on the disk below it.
func TestOverlay(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("no right to mount: %v", err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	at := func(path string) string { return filepath.Join(disk, path) }
	for _, path := range []string{"base/workspace/lower/below", "upper", "work", "root"} {
		if err := os.MkdirAll(at(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"lower/old", "lower/below/old"} {
		if err := os.WriteFile(at("base/workspace/"+path), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	options := "lowerdir=" + at("base") + ",upperdir=" + at("upper") + ",workdir=" + at("work") + ",index=off,metacopy=off,redirect_dir=off"
	if err := unix.Mount("overlay", at("root"), "overlay", 0, options); err != nil {
		t.Skipf("no overlay: %v", err)
	}
	defer unix.Unmount(at("root"), unix.MNT_DETACH)
	g := openOverlay(t, at("root"), disk, "upper")
	// What was removed leaves a mark behind, which a directory must not show through.
	if err := os.RemoveAll(g.at("lower/below")); err != nil {
		t.Fatal(err)
	}
	archive := archiveOf(t, file("lower/old", "new"), directoryEntry("lower/below", 0o2750), file("lower/below/new", "new"),
		file("new/deep/file", "new"), hardlink("new/hard", "new/deep/file"), symlink("new/link", "deep"))
	plain := newGuest(t)
	for _, side := range []*guest{g, plain} {
		for range 2 {
			side.mustPush(archive)
		}
	}
	got, want := tree(t, g.at("")), tree(t, plain.at(""))
	for _, implied := range []string{"lower", "new", "new/deep"} {
		delete(got, implied)
		delete(want, implied)
	}
	wantTree(t, got, want)
	_, err := g.push(archiveOf(t, file("aaa", "x"), file("lower", "x")))
	wantRefusal(t, err, Conflict)
	wantTree(t, g.without(tree(t, g.at("")), "lower", "new", "new/deep"), want)
	g.nothingLeft()
	for _, place := range []string{disk, at("upper")} {
		if left, _ := filepath.Glob(place + "/*pyro*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func (g *guest) without(tree map[string]string, names ...string) map[string]string {
	for _, name := range names {
		delete(tree, name)
	}
	return tree
}
