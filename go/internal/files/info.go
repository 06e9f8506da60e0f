// This file owns what is told of a file.
package files

import "golang.org/x/sys/unix"

// Type is what a file is.
type Type int

// The types. Other is a fifo, a socket or a device.
const (
	File Type = iota + 1
	Directory
	Symlink
	Other
)

// Info is what is told of a file.
type Info struct {
	// Path is relative to the workspace.
	Path     string
	Type     Type
	Size     uint64
	Mode     uint32
	Modified unix.Timespec
	// Target is what a link holds.
	Target string
}

const permissions = 0o7777

func infoOf(path string, stat *unix.Stat_t) Info {
	return Info{
		Path: path, Type: typeOf(stat.Mode), Size: uint64(stat.Size), Mode: stat.Mode & permissions, Modified: stat.Mtim,
	}
}

// TypeOf is the type that a mode of stat's says.
func TypeOf(mode uint32) Type { return typeOf(mode) }

func typeOf(mode uint32) Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return File
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Symlink
	}
	return Other
}

// needFile refuses what is no file.
func needFile(path string, mode uint32) error {
	switch typeOf(mode) {
	case File:
		return nil
	case Directory:
		return refuse(WrongKind, path, "%s is a directory, not a file", shown(path))
	case Symlink:
		return refuse(WrongKind, path, "%s is a symbolic link, not a file", shown(path))
	}
	return refuse(WrongKind, path, "%s is a fifo, a socket or a device, not a file", shown(path))
}
