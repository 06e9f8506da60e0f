// Package copytree makes a whole copy of a root file system that nothing runs on: every kind of file, hard links, holes,
// extended attributes, owners and times. Memory is bounded whatever the tree holds.
//
// This file owns the walk, and what of a root is not copied.
package copytree

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

const (
	// deepest is how many directories there may be below each other: each takes two descriptors.
	deepest   = 10_000
	machineID = "etc/machine-id"
	// found is what mkfs makes in a new file system.
	found = "lost+found"
)

// transient are the directories of a root whose content is the running system's: they are empty in the copy, and of the mode
// that is told, or of their own where that is 0.
var transient = map[string]uint32{"proc": 0, "sys": 0, "dev": 0, "run": 0, "tmp": 0o777 | unix.S_ISVTX}

// Options say what is to differ.
type Options struct {
	// BlankMachineID empties an /etc/machine-id that holds this.
	BlankMachineID string
}

// Error is what could not be copied. Reading tells whether the source was at fault.
type Error struct {
	Path    string
	Reading bool
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("%.300q: %v", "/"+e.Path, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Copy is one that is being made, or was.
type Copy struct {
	options Options
	// links is a directory of the copy where files with several names are kept by their inode until it is made.
	links   int
	buffer  []byte
	entries atomic.Uint64
	bytes   atomic.Uint64
}

// New returns a copy to be made.
func New(options Options) *Copy { return &Copy{options: options, buffer: make([]byte, bufferBytes)} }

// Progress tells how many names and how many bytes of data were copied.
func (c *Copy) Progress() (entries, bytes uint64) { return c.entries.Load(), c.bytes.Load() }

// Run copies what is below the open directory source into target, the root of an empty file system. Errors: *Error; that of
// the context.
func (c *Copy) Run(ctx context.Context, source, target int) error {
	links, err := makeLinks(source, target)
	if err != nil {
		return &Error{links, false, err}
	}
	if c.links, err = openDirectory(target, links); err != nil {
		return &Error{links, false, err}
	}
	defer unix.Close(c.links)
	if has(source, found) {
		if err := unix.Unlinkat(target, found, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
			return &Error{found, false, err}
		}
	}
	if err := c.directory(ctx, source, target, "", 0); err != nil {
		return err
	}
	if err := c.dropLinks(); err != nil {
		return &Error{links, false, err}
	}
	if err := unix.Unlinkat(target, links, unix.AT_REMOVEDIR); err != nil {
		return &Error{links, false, err}
	}
	// At last: all that was made in it has changed its time.
	var stat unix.Stat_t
	if err := unix.Fstat(source, &stat); err != nil {
		return &Error{"", true, err}
	}
	return c.finish(source, target, "", &stat)
}

// makeLinks makes a directory whose name the source does not have, and returns the name.
func makeLinks(source, target int) (string, error) {
	name := ".links"
	for has(source, name) {
		name += "-"
	}
	return name, unix.Mkdirat(target, name, 0o700)
}

func has(directory int, name string) bool {
	var stat unix.Stat_t
	return unix.Fstatat(directory, name, &stat, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// directory copies what is in a directory.
func (c *Copy) directory(ctx context.Context, source, target int, name string, depth int) error {
	if depth > deepest {
		return &Error{name, true, fmt.Errorf("more than %d directories are below each other", deepest)}
	}
	err := listing.Each(source, func(entry string, _ bool) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.entry(ctx, source, target, entry, path.Join(name, entry), depth)
	})
	var known *Error
	if err == nil || errors.As(err, &known) || ctx.Err() != nil {
		return err
	}
	return &Error{name, true, err}
}

func (c *Copy) entry(ctx context.Context, source, target int, entry, name string, depth int) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(source, entry, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &Error{name, true, err}
	}
	c.entries.Add(1)
	kind := stat.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdirectory(ctx, source, target, entry, name, &stat, depth)
	}
	again := ""
	if stat.Nlink > 1 {
		again = strconv.FormatUint(stat.Dev, 16) + "-" + strconv.FormatUint(stat.Ino, 16)
		err := unix.Linkat(c.links, again, target, entry, 0)
		if err == nil {
			return nil
		}
		switch {
		case errors.Is(err, unix.EMLINK):
			// More names than a file can have here: this one becomes a file of its own.
			again = ""
		case !errors.Is(err, unix.ENOENT):
			return &Error{name, false, err}
		}
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		err = c.file(source, target, entry, name, &stat)
	case unix.S_IFLNK:
		err = c.symlink(source, target, entry, name, &stat)
	default:
		err = c.node(source, target, entry, name, &stat)
	}
	if err != nil || again == "" {
		return err
	}
	if err := unix.Linkat(target, entry, c.links, again, 0); err != nil {
		return &Error{name, false, err}
	}
	return nil
}

func (c *Copy) subdirectory(ctx context.Context, source, target int, entry, name string, stat *unix.Stat_t, depth int) error {
	if err := unix.Mkdirat(target, entry, 0o700); err != nil {
		return &Error{name, false, err}
	}
	from, err := openDirectory(source, entry)
	if err != nil {
		return &Error{name, true, err}
	}
	defer unix.Close(from)
	to, err := openDirectory(target, entry)
	if err != nil {
		return &Error{name, false, err}
	}
	defer unix.Close(to)
	if mode, ok := transient[name]; !ok {
		if err := c.directory(ctx, from, to, name, depth+1); err != nil {
			return err
		}
	} else if mode != 0 {
		stat.Mode = mode
	}
	return c.finish(from, to, name, stat)
}

// dropLinks removes the names by inode.
func (c *Copy) dropLinks() error {
	for {
		var names []string
		full := errors.New("some")
		err := listing.Each(c.links, func(name string, _ bool) error {
			if names = append(names, name); len(names) == 1000 {
				return full
			}
			return nil
		})
		if err != nil && !errors.Is(err, full) {
			return err
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if err := unix.Unlinkat(c.links, name, 0); err != nil {
				return err
			}
		}
	}
}

func openDirectory(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// byDescriptor is a path to a name in an open directory, for calls that take no descriptor.
func byDescriptor(at int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(at) + "/" + name
}

// IsFull tells whether the copy had no room.
func IsFull(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && !failed.Reading &&
		(errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT))
}
