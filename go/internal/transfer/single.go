// This file owns single files and links on their way into the workspace: each is made on the disk, beneath the root, under a name
// that nobody can have asked the root for yet, and then put in its place by one rename.
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
	fd   int
	mode uint32
	// gone: it has its place, or was removed.
	gone bool
}

// ownMode is that of a file until it is whole: where it will be, others may not be allowed to look.
const ownMode = 0o600

// NewFile makes an empty file of root, which has this mode when it is closed. Errors: *Refusal, those of system calls.
func (t *Table) NewFile(mode uint32) (*Single, error) {
	s := &Single{table: t, name: shown + randomName(), mode: mode}
	var err error
	if s.fd, err = unix.Openat(t.upperFD, s.name, fileFlags, ownMode); err != nil {
		return nil, failed("make", s.name, err)
	}
	return s, nil
}

// NewLink makes a symbolic link. Errors: as for NewFile.
func (t *Table) NewLink(target string) (*Single, error) {
	s := &Single{table: t, name: shown + randomName(), fd: -1}
	if err := unix.Symlinkat(target, t.upperFD, s.name); err != nil {
		return nil, failed("make", s.name, err)
	}
	return s, nil
}

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
	err := unix.Fchmod(fd, s.mode)
	if err == nil {
		err = unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
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
	if err := unix.Renameat(s.table.rootFD, s.name, directory, name); err != nil {
		return err
	}
	s.gone = true
	return nil
}

// Drop removes it unless it has its place.
func (s *Single) Drop() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
	if s.gone {
		return
	}
	s.gone = true
	if err := unix.Unlinkat(s.table.rootFD, s.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		s.table.report("remove what was staged: %v", err)
	}
}

// Room refuses where the disk is as good as full: renames need some, and half of them done would be no longer nothing.
func (t *Table) Room() error { return room(t.diskFD) }
