package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guest is a root with a workspace, and the transfers into it.
type guest struct {
	*Table
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
	return openGuest(t, root)
}

func openGuest(t testing.TB, root string) *guest {
	t.Helper()
	// Without overlayfs, the root is the disk.
	return openOverlay(t, root, root, ".")
}

// openOverlay opens a root that shows a directory of a disk.
func openOverlay(t testing.TB, root, disk, upper string) *guest {
	t.Helper()
	top, err := unix.Open(disk, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Open(root, top, upper, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		table.Close(t.Context())
		unix.Close(table.rootFD)
		unix.Close(top)
	})
	return &guest{Table: table, t: t, root: root}
}

// at is a path in the workspace.
func (g *guest) at(path string) string { return filepath.Join(g.root, workspace, path) }

const plenty = 1 << 40

// push sends a whole archive to /workspace, in pieces of piece bytes.
func (g *guest) push(archive []byte) (Result, error) {
	return g.pushTo("/workspace", archive, plenty, 1_000_000, 1<<20)
}

func (g *guest) pushTo(destination string, archive []byte, maxBytes, maxEntries uint64, piece int) (Result, error) {
	g.next++
	id := fmt.Sprintf("t%d", g.next)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := g.Begin(id, destination, maxBytes, maxEntries); err != nil {
		return Result{}, err
	}
	for offset := 0; offset < len(archive); {
		part := archive[offset:min(offset+piece, len(archive))]
		accepted, err := g.Write(ctx, id, uint64(offset), bytes.Clone(part))
		if err != nil {
			return Result{}, err
		}
		offset = int(accepted)
	}
	return g.Finish(ctx, id, uint64(len(archive)))
}

func (g *guest) mustPush(archive []byte) Result {
	g.t.Helper()
	result, err := g.push(archive)
	if err != nil {
		g.t.Fatal(err)
	}
	return result
}

// nothingLeft sees that no staging is.
func (g *guest) nothingLeft() {
	g.t.Helper()
	entries, err := os.ReadDir(g.root)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), stagings) {
			g.t.Errorf("left: %s", entry.Name())
		}
	}
}

// wantRefusal sees that err is a refusal of a kind that says all the words.
func wantRefusal(t testing.TB, err error, kind Kind, words ...string) {
	t.Helper()
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Kind != kind {
		t.Fatalf("got %v, want %s", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q does not say %q", err, word)
		}
	}
}

// entry is one of an archive, with its content.
type entry struct {
	tar.Header
	content string
}

var when = time.Unix(1_600_000_000, 123_456_789)

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: when}, content}
}

func directoryEntry(name string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: when}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: when}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: when}, ""}
}

func special(name string, kind byte) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o644, ModTime: when}, ""}
}

func archiveOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, e := range entries {
		header := e.Header
		header.Size = int64(len(e.content))
		header.Format = tar.FormatPAX
		if err := writer.WriteHeader(&header); err != nil {
			t.Fatalf("%q: %v", header.Name, err)
		}
		if _, err := writer.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// gnuTar makes an archive of a directory as the client does.
func gnuTar(t testing.TB, directory string, flags ...string) []byte {
	t.Helper()
	list := exec.Command("find", ".", "-mindepth", "1", "-print0")
	list.Dir = directory
	names, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--create", "--format=posix", "--sparse", "--no-recursion", "--null", "--verbatim-files-from",
		"--files-from=-", "--file=-"}, flags...)
	command := exec.Command("tar", args...)
	command.Dir, command.Stdin = directory, bytes.NewReader(names)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	archive, err := command.Output()
	if err != nil {
		t.Fatalf("tar: %v: %s", err, &complaint)
	}
	return archive
}

// tree describes everything below a directory, one line for each path.
func tree(t testing.TB, directory string) map[string]string {
	t.Helper()
	found := map[string]string{}
	first := map[uint64]string{}
	err := filepath.WalkDir(directory, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == directory {
			return err
		}
		name, _ := filepath.Rel(directory, path)
		var stat syscall.Stat_t
		if err := syscall.Lstat(path, &stat); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %d:%d %d.%09d", stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Sec, stat.Mtim.Nsec)
		switch stat.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", content)
			if stat.Nlink > 1 {
				if first[stat.Ino] == "" {
					first[stat.Ino] = name
				}
				line += fmt.Sprintf(" links %d to %q", stat.Nlink, first[stat.Ino])
			}
		case syscall.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		found[name] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	for path, line := range want {
		if got[path] != line {
			t.Errorf("%q is %.300s\n\tshould be %.300s", path, got[path], line)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%q should not be", path)
		}
	}
}

// write makes files of a workspace.
func (g *guest) write(path, content string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.at(path)), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.at(path), []byte(content), 0o644); err != nil {
		g.t.Fatal(err)
	}
}
