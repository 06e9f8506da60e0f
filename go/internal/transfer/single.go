// This file owns single files and links on their way into the workspace: each is made on the disk, outside of the root, and
// then put in its place by one rename, as what a transfer stages is.
package transfer

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Single is a file or a link that has no place in the workspace yet.
type Single struct {
	table *Table
	name  string
	// fd is that of a file, -1 for a link.
	fd int
	// where says which directory holds the name.
	where int
}

const (
	onDisk = iota
	inRoot
	gone
)

// NewFile makes an empty file of this mode, of root. Errors: *Refusal, those of system calls.
func (t *Table) NewFile(mode uint32) (*Single, error) {
	s := &Single{table: t, name: randomName(), fd: -1}
	fd, err := unix.Openat(t.diskFD, s.onDisk(), fileFlags, mode&permissions)
	if err != nil {
		return nil, failed("make", s.name, err)
	}
	s.fd = fd
	// The umask took bits away, and the others are never given at once.
	if mode&(allModes&^permissions|0o022) != 0 {
		if err := unix.Fchmod(fd, mode); err != nil {
			s.Drop()
			return nil, failed("set the mode of", s.name, err)
		}
	}
	return s, nil
}

// NewLink makes a symbolic link. Errors: as for NewFile.
func (t *Table) NewLink(target string) (*Single, error) {
	s := &Single{table: t, name: randomName(), fd: -1}
	if err := unix.Symlinkat(target, t.diskFD, s.onDisk()); err != nil {
		return nil, failed("make", s.name, err)
	}
	return s, nil
}

func (s *Single) onDisk() string { return stagings + "-" + s.name }

// Write appends to a file.
func (s *Single) Write(data []byte) (int, error) {
	if err := write(s.fd, data, s.name); err != nil {
		return 0, err
	}
	return len(data), nil
}

// Stat tells of a file.
func (s *Single) Stat(stat *unix.Stat_t) error { return unix.Fstat(s.fd, stat) }

// Close says that all was written. Writing it to the disk begins, and is not waited for: what is written has its blocks then,
// and the journal commits no name for them before they hold it. So the loss of the microVM leaves the old file or the new one.
func (s *Single) Close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	err := unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err != nil {
		return failed("write", s.name, err)
	}
	return nil
}

// Place puts it in a directory of the root under a name, in the place of what has it. It is closed before. Called with the
// workspace held.
func (s *Single) Place(directory int, name string) error {
	upper, err := openDirectory(s.table.diskFD, s.table.upper)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	if err := unix.Renameat2(s.table.diskFD, s.onDisk(), upper, shown+s.name, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	s.where = inRoot
	if err := unix.Renameat(s.table.rootFD, shown+s.name, directory, name); err != nil {
		return err
	}
	s.where = gone
	return nil
}

// Drop removes it unless it has its place.
func (s *Single) Drop() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	var err error
	switch s.where {
	case onDisk:
		err = unix.Unlinkat(s.table.diskFD, s.onDisk(), 0)
	case inRoot:
		err = unix.Unlinkat(s.table.rootFD, shown+s.name, 0)
	}
	s.where = gone
	if err != nil && !errors.Is(err, unix.ENOENT) {
		s.table.report("remove what was staged: %v", err)
	}
}

// Room refuses where the disk is as good as full: renames need some, and half of them done would be no longer nothing.
func (t *Table) Room() error { return room(t.diskFD) }
