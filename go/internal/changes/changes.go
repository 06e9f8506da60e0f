// Package changes finds what is different in a workspace from what it was at its beginning, and writes it as a patch that git
// takes. What is the same by inode, times, size and mode is not opened.
//
// This file owns what is asked and what is told.
package changes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Workspace is the directory of a root that is compared.
const Workspace = "workspace"

const (
	// MostChanges is how many there may be: they are kept in memory, to be told in the order of their paths.
	MostChanges = 500_000
	// MostContent is how large a file may be whose content stands in a patch, bytes.
	MostContent = 16 << 20
	// mostText and mostLines bound what is compared line by line, both sides together; what is more is patched whole, as if
	// it were no text.
	mostText  = 8 << 20
	mostLines = 200_000
	// deepest is how many directories there may be below each other.
	deepest = 4096
)

// Status is what became of a path.
type Status int

// What may become of a path. TypeChanged: something of another kind is there.
const (
	Added Status = iota + 1
	Modified
	Deleted
	TypeChanged
)

// Change is one path that is not what it was.
type Change struct {
	// Path is relative to the workspace.
	Path   string
	Status Status
	// OldMode and NewMode have the type bits as stat has them; 0 where there was nothing, or is nothing.
	OldMode, NewMode uint32
	OldSize, NewSize uint64
	// Text: lines of it were changed, so many added and deleted.
	Text                  bool
	Insertions, Deletions uint64
	// Patched: the patch makes all of the change that git knows. It does not for what is too large or no file of git's.
	Patched bool
}

// Event is a change, or a part of its patch behind it.
type Event struct {
	Change *Change
	Patch  []byte
}

// Summary says what was looked at.
type Summary struct {
	// Entries is how many there are in both trees, FilesRead how many files were opened.
	Entries, FilesRead uint64
}

// Comparison is what is compared.
type Comparison struct {
	// Root is a descriptor of the root that has the workspace.
	Root int
	// Layers are descriptors of the roots that have what was there at the beginning, the topmost first.
	Layers []int
	// Manifest lists what was there.
	Manifest io.Reader
	// Paths, relative to the workspace, are all that is looked at, with what is below; none are everything but git's own
	// directories.
	Paths []string
	// Stat: no patch is wanted, only what it would be.
	Stat bool
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrTooMany: more changes than MostChanges.
	ErrTooMany = fmt.Errorf("there are more than %d changes", MostChanges)
	// ErrTooDeep: the tree is deeper than is looked at.
	ErrTooDeep = fmt.Errorf("the tree is deeper than %d directories", deepest)
)

// MissingError: there is, and was, nothing at a path that was asked for.
type MissingError struct{ Path string }

func (e *MissingError) Error() string { return fmt.Sprintf("there is no %q, and was none", e.Path) }

// Run tells the changes in the order of their paths, each with its patch behind it. Errors: ErrTooMany, ErrTooDeep,
// *MissingError, manifest.ErrFormat, those of emit and of system calls, that of ctx.
func (c *Comparison) Run(ctx context.Context, emit func(Event) error) (Summary, error) {
	f := &finder{ctx: ctx, root: c.Root, layers: c.Layers, filter: newFilter(c.Paths)}
	found, err := f.find(c.Manifest)
	if err != nil {
		return Summary{}, err
	}
	w := &writer{finder: f, stat: c.Stat, emit: emit}
	for i := range found {
		if err := ctx.Err(); err != nil {
			return Summary{}, err
		}
		if err := w.write(&found[i]); err != nil {
			return Summary{}, err
		}
	}
	return Summary{Entries: f.entries, FilesRead: f.filesRead}, nil
}

// open opens a path beneath a directory without following anything or leaving its mount. It may be longer than the kernel
// takes at once.
func open(at int, path string, flags int) (int, error) {
	held := -1
	defer func() {
		if held >= 0 {
			unix.Close(held)
		}
	}()
	for len(path) > mostAtOnce {
		cut := strings.LastIndexByte(path[:mostAtOnce], '/')
		if cut <= 0 {
			return -1, unix.ENAMETOOLONG
		}
		next, err := openat2(at, path[:cut], unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return -1, err
		}
		if held >= 0 {
			unix.Close(held)
		}
		held, at, path = next, next, path[cut+1:]
	}
	return openat2(at, path, flags)
}

const mostAtOnce = 4000

func openat2(at int, path string, flags int) (int, error) {
	if flags&unix.O_PATH == 0 {
		flags |= unix.O_NOCTTY
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(at, path, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

func below(path string) string {
	if path == "" {
		return Workspace
	}
	return Workspace + "/" + path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}
