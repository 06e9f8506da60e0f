// This file owns how host files are opened for a VMM.

package vmm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File is a host file that a VMM gets: as a descriptor, or under a name in its present directory.
type File struct {
	Path     string
	ReadOnly bool
	Name     string
	// Empty is the size of a file that is made for the VMM, where there is no path.
	Empty uint64
}

// open opens a regular file, never through a symbolic link in its last part.
func (f File) open() (*os.File, error) {
	flags := unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	if f.ReadOnly {
		flags |= unix.O_RDONLY
	} else {
		flags |= unix.O_RDWR
	}
	fd, err := unix.Open(f.Path, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Path, Err: err}
	}
	var stat unix.Stat_t
	err = unix.Fstat(fd, &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err == nil {
		// The flag only kept the open from waiting on a pipe; it would be shared with the VMM.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&unix.O_RDWR)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: f.Path, Err: err}
	}
	return os.NewFile(uintptr(fd), f.Path), nil
}

// makeDirectory makes the directory of a microVM, for user uid where that is not 0, with the console's file in it.
func makeDirectory(path string, uid uint32) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the microVM's directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(path, "console.log"), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err == nil && uid != 0 {
		if err = os.Lchown(path, int(uid), int(uid)); err != nil {
			file.Close()
		}
	}
	if err != nil {
		os.RemoveAll(path)
		return nil, fmt.Errorf("make the microVM's directory: %w", err)
	}
	return file, nil
}
