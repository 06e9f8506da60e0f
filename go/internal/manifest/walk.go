// This file owns going through a tree for a manifest: by descriptors, without following anything or leaving its mount.
package manifest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

const (
	// maxDepth is how deep a tree may be: each level takes a descriptor.
	maxDepth = 4096
	fields   = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_CTIME
)

// ErrDepth: the tree is too deep to be written down.
var ErrDepth = fmt.Errorf("manifest: the tree is deeper than %d directories", maxDepth)

// Walk adds everything below the directory top, without itself. What vanishes meanwhile is left out. Errors: ErrDepth, that
// of ctx, those of system calls and of the writer.
func Walk(ctx context.Context, top int, w *Writer) error { return walk(ctx, top, "", 0, w) }

func walk(ctx context.Context, directory int, path string, depth int, w *Writer) error {
	if depth > maxDepth {
		return ErrDepth
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var below []string
	err := listing.Each(directory, func(name string, _ bool) error {
		var stat unix.Statx_t
		// Whoever serves a file system that is mounted on it is not asked, and not waited for.
		err := unix.Statx(directory, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, fields, &stat)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("stat %q: %w", path+name, err)
		}
		entry := &Entry{
			Path: path + name, Mode: uint32(stat.Mode), Inode: stat.Ino, Size: stat.Size,
			Ctime: nanoseconds(stat.Ctime), Mtime: nanoseconds(stat.Mtime),
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			entry.Inode = 0
			below = append(below, name)
		}
		return w.Add(entry)
	})
	if err != nil {
		return err
	}
	for _, name := range below {
		if err := enter(ctx, directory, path, name, depth, w); err != nil {
			return err
		}
	}
	return nil
}

func enter(ctx context.Context, directory int, path, name string, depth int, w *Writer) error {
	fd, err := unix.Openat2(directory, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOATIME,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) {
		// Gone, replaced, or another file system's.
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", path+name, err)
	}
	defer unix.Close(fd)
	return walk(ctx, fd, path+name+"/", depth+1, w)
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1_000_000_000 + int64(t.Nsec) }
