package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/transfer"
)

// guest is a root with a workspace.
type guest struct {
	*Tree
	t    testing.TB
	root string
	next int
}

func newGuest(t testing.TB) *guest {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, workspace), 0o755); err != nil {
		t.Fatal(err)
	}
	// Without overlayfs, the root is the disk.
	disk, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	places, err := transfer.Open(root, disk, ".", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Open(root, places)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		places.Close(context.Background())
		tree.Close()
		unix.Close(disk)
		left, err := os.ReadDir(root)
		if err != nil || len(left) != 1 {
			t.Errorf("beside the workspace there is left: %v %v", left, err)
		}
	})
	return &guest{Tree: tree, t: t, root: root}
}

// at is a path in the workspace.
func (g *guest) at(path string) string { return filepath.Join(g.root, workspace, path) }

// make makes files with their parents: a name that ends with a slash is a directory, one with " -> " a link.
func (g *guest) make(files map[string]string) {
	g.t.Helper()
	for name, content := range files {
		check(g.t, os.MkdirAll(filepath.Dir(g.at(name)), 0o755))
		switch link, target, isLink := strings.Cut(name, " -> "); {
		case isLink:
			check(g.t, os.Symlink(target, g.at(link)))
		case strings.HasSuffix(name, "/"):
			check(g.t, os.MkdirAll(g.at(name), 0o755))
		default:
			check(g.t, os.WriteFile(g.at(name), []byte(content), 0o644))
		}
	}
}

func (g *guest) id() string {
	g.next++
	return fmt.Sprintf("r%d", g.next)
}

func (g *guest) write(path, content string) (Written, error) {
	return g.Write(timed(g.t), g.id(), []byte(path), []byte(content))
}

func (g *guest) edit(path, old, new string, all bool) (Edited, error) {
	return g.Edit(timed(g.t), g.id(), []byte(path), []byte(old), []byte(new), all)
}

// content is that of a file.
func (g *guest) content(path string) string {
	g.t.Helper()
	data, err := os.ReadFile(g.at(path))
	check(g.t, err)
	return string(data)
}

// tree is all that is in the workspace: modes, contents, link targets.
func (g *guest) tree() map[string]string { return treeOf(g.t, g.at("")) }

func treeOf(t testing.TB, top string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	check(t, filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == top {
			return err
		}
		name, _ := filepath.Rel(top, path)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		tree[name] = info.Mode().String()
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			tree[name] += " " + target
			return err
		}
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			tree[name] += " " + string(data)
			return err
		}
		return nil
	}))
	return tree
}

func timed(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that an error is a refusal of a kind that says something.
func refused(t testing.TB, err error, kind Kind, says string) *Refusal {
	t.Helper()
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("not refused: %v", err)
	}
	if refusal.Kind != kind || !strings.Contains(refusal.Why, says) {
		t.Fatalf("refused with %q: %q, and not with %q: %q", refusal.Kind, refusal.Why, kind, says)
	}
	return refusal
}
