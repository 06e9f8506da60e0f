// This file owns putting what was staged in its place: first whether that is possible, then renames, each of which leaves
// a file as its old or its new self. What is missing in the workspace is moved whole, with all that is below it.
package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

const (
	// roomBytes must be free for the renames: directories grow, and half of them done would be no longer nothing.
	roomBytes = 2 << 20
	// passes is how often a directory is gone through; once is enough unless somebody adds to it meanwhile.
	passes = 64
	stuck  = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
)

// destination is where a transfer goes.
type destination struct {
	parts []string
	// fd is the deepest directory of the path that is there; missing are the components below it.
	fd      int
	missing []string
	// made are those of them that were made, from the topmost on.
	made []madeDirectory
}

// madeDirectory is a name in an open directory.
type madeDirectory struct {
	above int
	name  string
}

// openDestination looks where a destination is. Errors: *Refusal, those of system calls.
func openDestination(root int, parts []string) (*destination, error) {
	at, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := &destination{parts: parts, fd: at}
	for i, part := range parts {
		next, err := openDirectory(d.fd, part)
		if errors.Is(err, unix.ENOENT) {
			d.missing = parts[i:]
			return d, nil
		}
		if err != nil {
			d.close()
			return nil, obstacle(err, "/"+strings.Join(parts[:i+1], "/"), Outside)
		}
		unix.Close(d.fd)
		d.fd = next
	}
	return d, nil
}

func (d *destination) close() {
	unix.Close(d.fd)
	for _, one := range d.made {
		unix.Close(one.above)
	}
}

// unmake removes what make made, if nobody has used it since.
func (d *destination) unmake() {
	for _, one := range slices.Backward(d.made) {
		if unix.Unlinkat(one.above, one.name, unix.AT_REMOVEDIR) != nil {
			return
		}
	}
}

// make makes what is missing of it.
func (d *destination) make() error {
	for i, part := range d.missing {
		name := "/" + strings.Join(d.parts[:len(d.parts)-len(d.missing)+i+1], "/")
		madeErr := unix.Mkdirat(d.fd, part, impliedMode)
		if madeErr != nil && !errors.Is(madeErr, unix.EEXIST) {
			return failed("make", name, madeErr)
		}
		next, err := openDirectory(d.fd, part)
		if madeErr == nil {
			above, dupErr := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
			if dupErr == nil {
				d.made = append(d.made, madeDirectory{above, part})
			}
		}
		if err != nil {
			return obstacle(err, name, Outside)
		}
		unix.Close(d.fd)
		d.fd = next
	}
	d.missing = nil
	return nil
}

// obstacle says what is in a directory's place. throughLink is the kind of refusal for a symbolic link.
func obstacle(err error, name string, throughLink Kind) error {
	switch {
	case errors.Is(err, unix.ELOOP):
		return refuseEntry(throughLink, name, "is a symbolic link in the workspace")
	case errors.Is(err, unix.ENOTDIR):
		return refuseEntry(Conflict, name, "is no directory in the workspace")
	case errors.Is(err, unix.EXDEV):
		return refuseEntry(Conflict, name, "is another file system")
	}
	return failed("open", name, err)
}

// merge is the one walk over the staged tree and the workspace beside each other: once to look, once to do.
type merge struct {
	stage *stage
	do    bool
	// named is the destination, for messages.
	named string
	// changed: something in the workspace is no longer as it was.
	changed bool
}

// directory goes through a staged directory and the one of the same path that is there.
func (m *merge) directory(path string, staged, there int) error {
	var below []string
	for range passes {
		below = below[:0]
		moved := false
		err := listing.Each(staged, func(name string, isDirectory bool) error {
			full := join(path, name)
			if isDirectory && m.stage.directories[full] != nil {
				below = append(below, name)
				return nil
			}
			moved = true
			if m.do {
				return m.move(staged, there, name, full)
			}
			return m.lookAtFile(there, name, full)
		})
		if err != nil {
			return err
		}
		// Taking names away may hide others from the listing.
		if !m.do || !moved {
			break
		}
	}
	for _, name := range below {
		if err := m.below(join(path, name), staged, there, name); err != nil {
			return err
		}
	}
	return nil
}

// below goes into a directory, or moves it whole where there is none in the workspace.
func (m *merge) below(path string, staged, there int, name string) error {
	d := m.stage.directories[path]
	target, err := openDirectory(there, name)
	if errors.Is(err, unix.ENOENT) {
		if m.do {
			return m.move(staged, there, name, path)
		}
		return nil
	}
	if err != nil {
		throughLink := Conflict
		if d.parent || !d.described {
			throughLink = Outside
		}
		return obstacle(err, m.full(path), throughLink)
	}
	defer unix.Close(target)
	if !m.do {
		var stat unix.Statx_t
		if err := unix.Statx(target, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &stat); err != nil {
			return failed("stat", m.full(path), err)
		}
		if stat.Attributes&stuck != 0 {
			return refuseEntry(Conflict, m.full(path), "must not be changed (chattr)")
		}
	}
	if d.parent {
		source, err := openDirectory(staged, name)
		if err != nil {
			return failed("open", path, err)
		}
		defer unix.Close(source)
		if err := m.directory(path, source, target); err != nil {
			return err
		}
	}
	if !m.do || !d.described {
		return nil
	}
	m.changed = true
	if err := unix.Fchmod(target, d.mode); err != nil {
		return failed("set the mode of", m.full(path), err)
	}
	if err := setFileTime(target, d.modTime); err != nil {
		return failed("set the time of", m.full(path), err)
	}
	return nil
}

func (m *merge) move(staged, there int, name, path string) error {
	err := unix.Renameat(staged, name, there, name)
	if err == nil {
		m.changed = true
		return nil
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return failed("put in its place", m.full(path), err)
}

// lookAtFile sees whether a file or a link may take a name.
func (m *merge) lookAtFile(there int, name, path string) error {
	var stat unix.Statx_t
	err := unix.Statx(there, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &stat)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return failed("stat", m.full(path), err)
	}
	switch {
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return refuseEntry(Conflict, m.full(path), "is a directory in the workspace, but not in the archive")
	case stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return refuseEntry(Conflict, m.full(path), "is another file system")
	case stat.Attributes&stuck != 0:
		return refuseEntry(Conflict, m.full(path), "must not be changed (chattr)")
	}
	return nil
}

func (m *merge) full(path string) string { return m.named + "/" + path }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// walk goes through all of the staged tree.
func (m *merge) walk(there int) error { return m.directory("", m.stage.top, there) }

// room refuses where the disk is as good as full.
func room(fd int) error {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(fd, &stat); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if stat.Bavail*uint64(stat.Bsize) < roomBytes {
		return refuse(Full, "the guest's disk has no room")
	}
	return nil
}
