// Package listing reads directories by descriptor, name after name, whatever their size.
package listing

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

const bufferBytes = 32 << 10

// Each calls each for every name in an open directory from its beginning on, with whether it is a directory. Names that
// are added or removed meanwhile may or may not be told.
func Each(fd int, each func(name string, isDirectory bool) error) error {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return err
	}
	buffer := make([]byte, bufferBytes)
	for {
		n, err := unix.Getdents(fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n <= 0 {
			return nil
		}
		for rest := buffer[:n]; len(rest) >= direntName; {
			length := int(binary.NativeEndian.Uint16(rest[direntLength:]))
			if length < direntName || length > len(rest) {
				return unix.EIO
			}
			kind, name := rest[direntKind], rest[direntName:length]
			rest = rest[length:]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			if string(name) == "." || string(name) == ".." {
				continue
			}
			if err := each(string(name), kind == unix.DT_DIR); err != nil {
				return err
			}
		}
	}
}

// Where the fields of a linux_dirent64 are.
const (
	direntLength = 16
	direntKind   = 18
	direntName   = 19
)
