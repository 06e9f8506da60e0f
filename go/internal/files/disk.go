// This file owns looking at a whole disk that nothing runs on: the same lists and reads as of a workspace, from another root.
package files

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is the root of a disk. Paths are resolved as a process with that root would, and lead nowhere else. Its methods may
// be called at the same time.
type Disk struct{ root int }

// OfDisk returns what is below an open directory, which stays the caller's.
func OfDisk(root int) *Disk { return &Disk{root} }

// List is Tree.List for an absolute path; paths in the answer are relative to the root. Errors: *Refusal.
func (d *Disk) List(given []byte, recursive bool, limit uint32, after []byte) (Page, error) {
	name, err := absolute(given)
	if err != nil {
		return Page{}, err
	}
	if limit == 0 || limit > ListLimit {
		return Page{}, refuse(Invalid, name, "a list has 1 to %d entries", ListLimit)
	}
	fd, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return d.single(name, after)
	}
	if err != nil {
		return Page{}, obstacle(err, name)
	}
	defer unix.Close(fd)
	return list(fd, name[1:], name, recursive, int(limit), after)
}

func (d *Disk) single(name string, after []byte) (Page, error) {
	above, base := path.Split(name)
	directory, err := d.open(above, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return Page{}, obstacle(err, name)
	}
	defer unix.Close(directory)
	info, err := describe(directory, base, name[1:])
	if err != nil {
		return Page{}, obstacle(err, name)
	}
	if len(after) > 0 {
		return Page{}, nil
	}
	return Page{Files: []Info{info}}, nil
}

// Read reads a part of a file by its absolute path; the path in the answer is relative to the root. Errors: *Refusal.
func (d *Disk) Read(given []byte, offset uint64, most uint32) (Part, error) {
	name, err := absolute(given)
	if err != nil {
		return Part{}, err
	}
	if most > ReadLimit {
		return Part{}, refuse(Limit, name, "at most %d bytes are read at once", ReadLimit)
	}
	// A fifo must not be waited for, and a device cannot be opened on what is mounted without them.
	fd, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EACCES) {
		return Part{}, needFile(name, unix.S_IFSOCK)
	}
	if err != nil {
		return Part{}, obstacle(err, name)
	}
	defer unix.Close(fd)
	part, err := partOf(fd, name, Window{Offset: offset, Max: most})
	part.Info.Path = name[1:]
	return part, err
}

func (d *Disk) open(name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOCTTY),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(d.root, name, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// absolute returns a request's path without "." and "..".
func absolute(given []byte) (string, error) {
	name := string(given)
	if strings.IndexByte(name, 0) >= 0 {
		return "", refuse(Invalid, "", "a path has no zero byte")
	}
	if !strings.HasPrefix(name, "/") {
		return "", refuse(Invalid, "", "a path of a disk is absolute")
	}
	return path.Clean(name), nil
}
