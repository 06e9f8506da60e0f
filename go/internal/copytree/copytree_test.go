package copytree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is what describe makes of a directory: a line for each name.
func describe(t *testing.T, root string) []string {
	t.Helper()
	first := map[uint64]string{}
	var lines []string
	check(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d %x", name, stat.Mode, stat.Uid, stat.Gid, stat.Rdev)
		if !entry.IsDir() {
			line += fmt.Sprintf(" %d links", stat.Nlink)
			if other, ok := first[stat.Ino]; ok {
				line += " = " + other
			} else {
				first[stat.Ino] = name
			}
		}
		if transient[name] == 0 {
			line += fmt.Sprintf(" %d.%d", stat.Mtim.Sec, stat.Mtim.Nsec)
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d bytes %.40q", len(data), bytes.Trim(data, "\x00"))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		value := make([]byte, 100)
		if n, err := unix.Lgetxattr(path, "user.note", value); err == nil {
			line += fmt.Sprintf(" note %q", value[:n])
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestACopyIsTheSame(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(source, name) }
	for _, directory := range []string{"etc", "a/b", "tmp", "proc", "lost+found", ".links"} {
		check(t, os.MkdirAll(at(directory), 0o755))
	}
	check(t, os.Mkdir(filepath.Join(target, "lost+found"), 0o700))
	id := strings.Repeat("ab", 16)
	check(t, os.WriteFile(at("etc/machine-id"), []byte(id+"\n"), 0o444))
	check(t, os.WriteFile(at("a/plain"), []byte("text"), 0o640))
	check(t, os.WriteFile(at("a/empty"), nil, 0o600))
	check(t, os.WriteFile(at("a/raising"), []byte("x"), 0o755))
	check(t, os.Chmod(at("a/raising"), 0o755|os.ModeSetuid))
	check(t, os.Link(at("a/plain"), at("a/b/again")))
	check(t, os.Symlink("loop", at("a/loop")))
	check(t, os.Link(at("a/loop"), at("a/loop2")))
	check(t, unix.Mkfifo(at("a/fifo"), 0o620))
	check(t, os.WriteFile(at("lost+found/kept"), []byte("1"), 0o644))
	check(t, os.WriteFile(at(".links/0-1"), []byte("2"), 0o644))
	check(t, os.WriteFile(at("tmp/gone"), []byte("3"), 0o644))
	check(t, os.WriteFile(at("a/not utf-8: \xff\n"), []byte("4"), 0o644))
	big := bytes.Repeat([]byte("0123456789abcdef"), bufferBytes/8)
	check(t, os.WriteFile(at("a/big"), big, 0o644))
	sparse, err := os.Create(at("a/sparse"))
	check(t, err)
	for _, place := range []int64{0, 8 << 20, 64 << 20} {
		_, err := sparse.WriteAt([]byte("data"), place)
		check(t, err)
	}
	check(t, sparse.Truncate(100<<20))
	check(t, sparse.Close())
	if err := unix.Lsetxattr(at("a/plain"), "user.note", []byte("v"), 0); err != nil {
		t.Logf("no attributes here: %v", err)
	}
	if os.Geteuid() == 0 {
		check(t, unix.Mknod(at("a/device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		check(t, os.Lchown(at("a/loop"), 12, 34))
		check(t, os.Lchown(at("a/plain"), 56, 78))
	}
	long := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	for _, name := range []string{"a/plain", "a/b", "a", ""} {
		check(t, os.Chtimes(at(name), long, long))
	}

	made := New(Options{BlankMachineID: id})
	check(t, made.Run(t.Context(), open(t, source), open(t, target)))
	entries, _ := made.Progress()

	check(t, os.Remove(at("tmp/gone")))
	check(t, os.Chmod(at("tmp"), 0o777|os.ModeSticky))
	check(t, os.Truncate(at("etc/machine-id"), 0))
	check(t, os.Chtimes(at("etc/machine-id"), long, long))
	check(t, os.Chtimes(filepath.Join(target, "etc/machine-id"), long, long))
	want, got := describe(t, source), describe(t, target)
	if !slices.Equal(want, got) {
		t.Errorf("the copy differs:\n%s\n\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	if int(entries) != len(want)-1 {
		t.Errorf("%d entries were counted of %d", entries, len(want)-1)
	}
	var a, b unix.Stat_t
	check(t, unix.Stat(at("a/sparse"), &a))
	check(t, unix.Stat(filepath.Join(target, "a/sparse"), &b))
	if b.Blocks > a.Blocks+64 {
		t.Errorf("holes were filled: %d blocks of %d", b.Blocks, a.Blocks)
	}
}

func TestACopyEnds(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(source, "x"), nil, 0o600))
	ended, end := context.WithCancel(t.Context())
	end()
	if err := New(Options{}).Run(ended, open(t, source), open(t, target)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestWhatHasNoRoomIsTold(t *testing.T) {
	full := &Error{"x", false, unix.ENOSPC}
	unreadable := &Error{"x", true, unix.ENOSPC}
	if !IsFull(full) || IsFull(unreadable) || IsFull(&Error{"x", false, unix.EIO}) {
		t.Fatal("told apart wrongly")
	}
}
