package changes

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/manifest"
)

// ground is a workspace with its baseline.
type ground struct {
	t                     testing.TB
	root, layer, pristine string
	manifest              []byte
}

// newGround makes a workspace of what fill makes, and its baseline.
func newGround(t testing.TB, fill func(workspace string)) *ground {
	t.Helper()
	top := t.TempDir()
	g := &ground{t: t, root: top + "/root", layer: top + "/layer", pristine: top + "/pristine"}
	check(t, os.MkdirAll(g.root+"/"+Workspace, 0o755))
	fill(g.root + "/" + Workspace)
	g.run("cp", "-a", g.root, g.layer)
	g.run("cp", "-a", g.root+"/"+Workspace, g.pristine)
	fd, err := unix.Open(g.root+"/"+Workspace, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	check(t, err)
	defer unix.Close(fd)
	var out bytes.Buffer
	writer := manifest.NewWriter(&out)
	check(t, manifest.Walk(t.Context(), fd, writer))
	_, err = writer.Close()
	check(t, err)
	g.manifest = out.Bytes()
	return g
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *ground) run(program string, args ...string) {
	g.t.Helper()
	if output, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		g.t.Fatalf("%s %q: %v\n%s", program, args, err, output)
	}
}

func (g *ground) at(path string) string { return g.root + "/" + Workspace + "/" + path }

// told is what a comparison told.
type told struct {
	changes []Change
	patch   []byte
	summary Summary
}

func (g *ground) compare(paths ...string) told {
	g.t.Helper()
	result, err := g.try(g.t.Context(), paths...)
	check(g.t, err)
	return result
}

func (g *ground) try(ctx context.Context, paths ...string) (told, error) {
	g.t.Helper()
	open := func(path string) int {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		check(g.t, err)
		return fd
	}
	root, empty, layer := open(g.root), open(g.t.TempDir()), open(g.layer)
	for _, fd := range []int{root, empty, layer} {
		defer unix.Close(fd)
	}
	var result told
	comparison := Comparison{Root: root, Layers: []int{empty, layer}, Manifest: bytes.NewReader(g.manifest), Paths: paths}
	summary, err := comparison.Run(ctx, func(event Event) error {
		if event.Change != nil {
			result.changes = append(result.changes, *event.Change)
		}
		result.patch = append(result.patch, event.Patch...)
		return nil
	})
	result.summary = summary
	return result, err
}

// applied applies a patch to a copy of what the workspace was, as its user would, and returns where that is.
func (g *ground) applied(patch []byte) string {
	g.t.Helper()
	copied := g.t.TempDir() + "/copy"
	g.run("cp", "-a", g.pristine, copied)
	if len(patch) == 0 {
		return copied
	}
	apply := exec.Command("git", "apply", "--whitespace=nowarn", "-")
	apply.Dir = copied
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES=/", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_DIR=/nowhere")
	apply.Stdin = bytes.NewReader(patch)
	if output, err := apply.CombinedOutput(); err != nil {
		g.t.Fatalf("git apply: %v\n%s\n%.4000s", err, output, patch)
	}
	return copied
}

// sameAsWorkspace checks that a directory has the files of the workspace that git knows, with the modes that it knows.
func (g *ground) sameAsWorkspace(directory string) {
	g.t.Helper()
	want, got := g.tree(g.root+"/"+Workspace), g.tree(directory)
	for path, content := range want {
		if got[path] != content {
			g.t.Errorf("%q is %.200q, want %.200q", path, got[path], content)
		}
	}
	for path := range got {
		if _, there := want[path]; !there {
			g.t.Errorf("%q is there", path)
		}
	}
}

// tree describes the files and links that git knows.
func (g *ground) tree(top string) map[string]string {
	g.t.Helper()
	all := map[string]string{}
	check(g.t, filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, top+"/")
		if entry.Name() == ".git" {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		switch info, _ := entry.Info(); {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[name] = fmt.Sprintf("%o %s", gitMode(uint32(info.Mode().Perm())|unix.S_IFREG), content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			all[name] = "link " + target
		}
		return nil
	}))
	return all
}

// summaryOf is each change as a line.
func summaryOf(changes []Change) []string {
	var lines []string
	for _, change := range changes {
		line := fmt.Sprintf("%c %s", " AMDT"[change.Status], change.Path)
		if change.Text {
			line += fmt.Sprintf(" +%d -%d", change.Insertions, change.Deletions)
		}
		if !change.Patched {
			line += " (not in the patch)"
		}
		lines = append(lines, line)
	}
	return lines
}

func (g *ground) time() time.Time { return time.Unix(1_000_000_000, 0) }

// edits does something to a tree, many times. Links in it may lead anywhere: nothing is done through one that leads out.
func edits(t testing.TB, random *rand.Rand, top string, times int) {
	t.Helper()
	tree, err := os.OpenRoot(top)
	check(t, err)
	defer tree.Close()
	names := []string{"a", "b", "c d", "e\nf", "\"g\"", "\xff", "h\\", "i\tj", "k.txt", "ü"}
	pick := func() string {
		path := names[random.IntN(len(names))]
		for range random.IntN(3) {
			path += "/" + names[random.IntN(len(names))]
		}
		return path
	}
	content := func() []byte {
		var b bytes.Buffer
		switch random.IntN(8) {
		case 0:
			return nil
		case 1:
			for range random.IntN(300) {
				b.WriteByte(byte(random.IntN(256)))
			}
			return b.Bytes()
		}
		for range random.IntN(60) {
			fmt.Fprintf(&b, "%d\n", random.IntN(20))
		}
		if random.IntN(3) == 0 {
			b.WriteString("no newline")
		}
		return b.Bytes()
	}
	for range times {
		path := pick()
		info, err := tree.Lstat(path)
		switch action := random.IntN(10); {
		case err != nil, action == 0:
			if action%3 == 1 {
				_ = tree.MkdirAll(filepath.Dir(path), 0o755)
			} else {
				makeRoom(tree, path)
			}
			if random.IntN(6) == 0 {
				// None that leads into the tree: git cannot make what takes the place of one that leads to itself.
				_ = tree.Symlink([]string{"nowhere\n", "/nowhere/at/all"}[random.IntN(2)], path)
			} else {
				_ = tree.WriteFile(path, content(), []fs.FileMode{0o644, 0o755}[random.IntN(2)])
			}
		case action < 4:
			_ = tree.RemoveAll(path)
		case action == 4 && info.Mode().IsRegular():
			check(t, tree.Chmod(path, []fs.FileMode{0o644, 0o755, 0o600}[random.IntN(3)]))
		case action == 5:
			_ = tree.Rename(path, pick())
		case info.Mode().IsRegular():
			old, err := tree.ReadFile(path)
			check(t, err)
			lines := bytes.SplitAfter(old, []byte("\n"))
			at := random.IntN(len(lines))
			lines[at] = []byte(fmt.Sprintf("changed %d\n", random.IntN(20)))
			check(t, tree.WriteFile(path, bytes.Join(lines, nil), info.Mode()))
		}
	}
}

// makeRoom removes what is in the way of a path.
func makeRoom(tree *os.Root, path string) {
	for at := filepath.Dir(path); at != "."; at = filepath.Dir(at) {
		if info, err := tree.Lstat(at); err == nil && !info.IsDir() {
			_ = tree.Remove(at)
		}
	}
	_ = tree.RemoveAll(path)
	_ = tree.MkdirAll(filepath.Dir(path), 0o755)
}
