// This file owns finding what is different: the manifest is read once, directory by directory as it was written, and each is
// compared with what is there now. Memory is bounded by the largest directory and by what was found.
package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
	"pyro.dev/pyro/go/internal/manifest"
)

const (
	fields      = unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_CTIME
	permissions = 0o7777
	pieceBytes  = 128 << 10
)

type finder struct {
	ctx    context.Context
	root   int
	layers []int
	filter *filter
	found  []Change

	entries, filesRead uint64
	// pending are directories that were there and of which nothing was read yet: those that were empty stay.
	pending map[string]pending
}

// pending is a directory that was there: kept is one that still is.
type pending struct {
	kept bool
	mode uint32
}

func isDirectory(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }

// find returns all changes, sorted.
func (f *finder) find(from io.Reader) ([]Change, error) {
	f.pending = map[string]pending{"": {kept: true}}
	reader, err := manifest.NewReader(from)
	if err != nil {
		return nil, err
	}
	parent, group := "", map[string]*manifest.Entry{}
	end := func() error {
		if len(group) == 0 {
			return nil
		}
		delete(f.pending, parent)
		err := f.directory(parent, group, strings.Count(parent, "/"))
		clear(group)
		return err
	}
	for {
		entry, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		f.entries++
		directory, name := "", entry.Path
		if at := strings.LastIndexByte(entry.Path, '/'); at >= 0 {
			directory, name = entry.Path[:at], entry.Path[at+1:]
		}
		if directory != parent {
			if err := end(); err != nil {
				return nil, err
			}
			parent = directory
		}
		if !f.filter.wants(entry.Path) && !(isDirectory(entry.Mode) && f.filter.enters(entry.Path)) {
			// Its directory was not empty all the same.
			group[name] = nil
			continue
		}
		group[name] = entry
	}
	if err := end(); err != nil {
		return nil, err
	}
	for path, was := range f.pending {
		if was.kept {
			err = f.directory(path, nil, strings.Count(path, "/"))
		} else if f.filter.wants(path) {
			err = f.add(Change{Path: path, Status: Deleted, OldMode: was.mode})
		}
		if err != nil {
			return nil, err
		}
	}
	if path, missing := f.filter.missing(); missing {
		return nil, &MissingError{path}
	}
	slices.SortFunc(f.found, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return f.found, nil
}

func (f *finder) add(change Change) error {
	if len(f.found) == MostChanges {
		return ErrTooMany
	}
	f.found = append(f.found, change)
	return nil
}

// directory compares what a directory had, by name, with what it has; nil stands for what is not looked at.
func (f *finder) directory(path string, had map[string]*manifest.Entry, depth int) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	if !f.filter.enters(path) {
		return nil
	}
	now, err := f.list(path, depth)
	if err != nil {
		return err
	}
	for i := range now {
		entry := &now[i]
		name := entry.Path[strings.LastIndexByte(entry.Path, '/')+1:]
		before, was := had[name]
		delete(had, name)
		switch {
		case was && before == nil:
		case was:
			err = f.both(before, entry, depth)
		case f.filter.wants(entry.Path) || isDirectory(entry.Mode) && f.filter.enters(entry.Path):
			err = f.new(entry, depth)
		}
		if err != nil {
			return err
		}
	}
	for _, before := range had {
		if before == nil {
			continue
		}
		if isDirectory(before.Mode) {
			f.pending[before.Path] = pending{mode: before.Mode}
			continue
		}
		if !f.filter.wants(before.Path) {
			continue
		}
		if err := f.add(Change{Path: before.Path, Status: Deleted, OldMode: before.Mode, OldSize: before.Size}); err != nil {
			return err
		}
	}
	return nil
}

// list returns what is in a directory now, nothing where there is none any more.
func (f *finder) list(path string, depth int) ([]manifest.Entry, error) {
	if depth > deepest {
		return nil, ErrTooDeep
	}
	fd, err := open(f.root, below(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %.300q: %w", path, err)
	}
	defer unix.Close(fd)
	var all []manifest.Entry
	err = listing.Each(fd, func(name string, _ bool) error {
		var stat unix.Statx_t
		err := unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, fields, &stat)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("stat %.300q: %w", join(path, name), err)
		}
		f.entries++
		all = append(all, manifest.Entry{
			Path: join(path, name), Mode: uint32(stat.Mode), Inode: stat.Ino, Size: stat.Size,
			Ctime: nanoseconds(stat.Ctime), Mtime: nanoseconds(stat.Mtime),
		})
		return nil
	})
	return all, err
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1_000_000_000 + int64(t.Nsec) }

// isGone: it is not there, is no directory, or another file system's.
func isGone(err error) bool {
	for _, one := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// both compares what there was with what there is.
func (f *finder) both(before, now *manifest.Entry, depth int) error {
	wasDirectory, isNow := isDirectory(before.Mode), isDirectory(now.Mode)
	if wasDirectory {
		f.pending[before.Path] = pending{kept: isNow, mode: before.Mode}
	}
	change := Change{
		Path: now.Path, Status: Modified, OldMode: before.Mode, NewMode: now.Mode, OldSize: before.Size, NewSize: now.Size,
	}
	if before.Mode&unix.S_IFMT != now.Mode&unix.S_IFMT {
		change.Status = TypeChanged
		// What was in it is told of in its turn; that it was empty is no news.
		if wasDirectory {
			f.pending[before.Path] = pending{mode: before.Mode, kept: true}
		}
		if f.filter.wants(now.Path) {
			if err := f.add(change); err != nil {
				return err
			}
		}
		if isNow {
			_, err := f.below(now, depth)
			return err
		}
		return nil
	}
	if !f.filter.wants(now.Path) {
		return nil
	}
	same := before.Mode == now.Mode
	if !wasDirectory && same && before.Inode == now.Inode && before.Size == now.Size &&
		before.Ctime == now.Ctime && before.Mtime == now.Mtime {
		return nil
	}
	if same && !wasDirectory {
		var err error
		if same, err = f.sameContent(before, now); err != nil {
			return err
		}
	}
	if same {
		return nil
	}
	return f.add(change)
}

// new tells of what was not there. A directory is told of when nothing is in it.
func (f *finder) new(now *manifest.Entry, depth int) error {
	added := Change{Path: now.Path, Status: Added, NewMode: now.Mode, NewSize: now.Size}
	if !isDirectory(now.Mode) {
		return f.add(added)
	}
	added.NewSize = 0
	any, err := f.below(now, depth)
	if err == nil && !any && f.filter.wants(now.Path) {
		err = f.add(added)
	}
	return err
}

// below tells of all that is in a directory that was not there, and whether that is anything.
func (f *finder) below(directory *manifest.Entry, depth int) (bool, error) {
	if err := f.ctx.Err(); err != nil {
		return false, err
	}
	now, err := f.list(directory.Path, depth+1)
	if err != nil {
		return false, err
	}
	for i := range now {
		entry := &now[i]
		if !f.filter.wants(entry.Path) && !(isDirectory(entry.Mode) && f.filter.enters(entry.Path)) {
			continue
		}
		if err := f.new(entry, depth+1); err != nil {
			return false, err
		}
	}
	return len(now) > 0, nil
}

// sameContent compares two files, or links, of one mode.
func (f *finder) sameContent(before, now *manifest.Entry) (bool, error) {
	if before.Size != now.Size {
		return false, nil
	}
	switch now.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		was, err := f.oldLink(before.Path)
		if err != nil {
			return false, err
		}
		is, err := f.newLink(now.Path)
		return err == nil && was == is, nil
	default:
		// Of a device or a pipe there is no more to know.
		return true, nil
	}
	was, _, err := f.openOld(before.Path)
	if err != nil {
		return false, err
	}
	defer unix.Close(was)
	is, _, err := f.openNew(now.Path)
	if err != nil {
		// Gone meanwhile: so it is told when its turn comes.
		return false, nil
	}
	defer unix.Close(is)
	f.filesRead++
	a, b := make([]byte, pieceBytes), make([]byte, pieceBytes)
	for {
		if err := f.ctx.Err(); err != nil {
			return false, err
		}
		n, err := readFull(was, a)
		if err != nil {
			return false, fmt.Errorf("read %.300q of the baseline: %w", before.Path, err)
		}
		m, err := readFull(is, b)
		if err != nil {
			return false, fmt.Errorf("read %.300q: %w", now.Path, err)
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if n < len(a) {
			return true, nil
		}
	}
}

// readFull reads until the buffer is full or the file ends.
func readFull(fd int, into []byte) (int, error) {
	for read := 0; ; {
		n, err := unix.Read(fd, into[read:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return read, err
		}
		read += n
		if n == 0 || read == len(into) {
			return read, nil
		}
	}
}
