// This file owns unpacking: from the bytes of an archive to a staged tree, with everything checked that can be checked
// without looking at the workspace.
package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// bufferBytes is how much of a file is read and written at once.
	bufferBytes = 256 << 10
	// holeBytes is how finely holes are told from data where a sparse file has both; blocks of the disk are as large.
	holeBytes = 4096
	fileFlags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

// unpacker unpacks one archive.
type unpacker struct {
	source     *source
	stage      *stage
	maxBytes   uint64
	maxEntries uint64
	entries    uint64
	bytes      uint64
	buffer     []byte
}

// run unpacks everything. Errors: *Refusal, ErrAborted, those of system calls.
func (u *unpacker) run() error {
	archive := tar.NewReader(u.source)
	u.buffer = make([]byte, bufferBytes)
	for {
		u.source.next()
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		// Names are judged here, by stricter rules than those of archive/tar.
		if err != nil && !(errors.Is(err, tar.ErrInsecurePath) && header != nil) {
			return u.fault(err)
		}
		if err := u.entry(archive, header); err != nil {
			return err
		}
	}
	if u.source.err != nil {
		return u.source.err
	}
	if u.source.cut() {
		return refuse(Archive, "it is cut short")
	}
	if err := u.source.drain(); err != nil {
		return err
	}
	u.stage.leave()
	return u.stage.settle()
}

// fault tells an archive's faults from those of where it comes from.
func (u *unpacker) fault(err error) error {
	switch {
	case u.source.err != nil:
		return u.source.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return refuse(Archive, "it is cut short")
	}
	return refuse(Archive, "it is no whole tar archive (%.200s)", strings.TrimPrefix(err.Error(), "archive/tar: "))
}

func (u *unpacker) entry(archive *tar.Reader, header *tar.Header) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		// A comment on the archive, as git writes it.
		return nil
	}
	path, err := clean(header.Name)
	if err != nil {
		return err
	}
	if path == "" && header.Typeflag == tar.TypeDir {
		// The destination itself stays as it is.
		return nil
	}
	if u.entries++; u.entries > u.maxEntries {
		return refuse(Limit, "the archive has more than %d entries", u.maxEntries)
	}
	mode := uint32(header.Mode) & allModes
	if header.Typeflag == tar.TypeDir {
		return u.stage.describe(path, mode, header.ModTime)
	}
	if path == "" {
		return refuseEntry(Archive, header.Name, "is no directory, though its name is that of the destination")
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(archive, header, path, mode)
	case tar.TypeSymlink:
		return u.symlink(header, path)
	case tar.TypeLink:
		return u.link(header, path)
	case tar.TypeChar, tar.TypeBlock:
		return refuseEntry(Archive, header.Name, "is a device")
	case tar.TypeFifo:
		return refuseEntry(Archive, header.Name, "is a fifo")
	}
	return refuseEntry(Archive, header.Name, "is of the kind %q, which cannot be unpacked", string(header.Typeflag))
}

func (u *unpacker) file(archive *tar.Reader, header *tar.Header, path string, mode uint32) error {
	size := uint64(header.Size)
	if size > u.maxBytes || u.bytes > u.maxBytes-size {
		return refuse(Limit, "the archive's files have more than %d bytes", u.maxBytes)
	}
	u.bytes += size
	fd := -1
	err := u.stage.place(path, func(directory int, name string) (err error) {
		fd, err = unix.Openat(directory, name, fileFlags, mode&permissions)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if isSparse(header) {
		err = u.sparse(archive, fd, path, header.Size)
	} else {
		err = u.plain(archive, fd, path, header.Size)
	}
	if err != nil {
		return err
	}
	if mode&^permissions != 0 {
		if err := unix.Fchmod(fd, mode); err != nil {
			return failed("set the mode of", path, err)
		}
	}
	if err := setFileTime(fd, header.ModTime); err != nil {
		return failed("set the time of", path, err)
	}
	return nil
}

func isSparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (u *unpacker) plain(archive *tar.Reader, fd int, path string, size int64) error {
	for size > 0 {
		part := u.buffer[:min(size, bufferBytes)]
		if _, err := io.ReadFull(archive, part); err != nil {
			return u.fault(err)
		}
		if err := write(fd, part, path); err != nil {
			return err
		}
		size -= int64(len(part))
	}
	return nil
}

// sparse writes a file with holes. archive/tar does not tell where they are, but while it hands out a hole it reads
// nothing of the archive.
func (u *unpacker) sparse(archive *tar.Reader, fd int, path string, size int64) error {
	at, written := int64(0), int64(0)
	for {
		part := u.buffer[:min(max(size-at, 1), bufferBytes)]
		before := u.source.position
		n, err := io.ReadFull(archive, part)
		if n == 0 && err == io.EOF && at == size {
			break
		}
		if err != nil {
			return u.fault(err)
		}
		if at+int64(n) > size {
			return refuseEntry(Archive, path, "is larger than its header says")
		}
		step := n
		switch read := u.source.position - before; {
		case read == 0:
			at += int64(n)
			continue
		case read < int64(n):
			step = holeBytes
		}
		for from := 0; from < n; from += step {
			piece := part[from:min(from+step, n)]
			if len(piece) <= holeBytes && allZero(piece) {
				continue
			}
			offset := at + int64(from)
			if offset != written {
				if _, err := unix.Seek(fd, offset, unix.SEEK_SET); err != nil {
					return failed("write", path, err)
				}
			}
			if err := write(fd, piece, path); err != nil {
				return err
			}
			written = offset + int64(len(piece))
		}
		at += int64(n)
	}
	if written != size {
		if err := unix.Ftruncate(fd, size); err != nil {
			return failed("write", path, err)
		}
	}
	return nil
}

var zeros [holeBytes]byte

func allZero(part []byte) bool { return bytes.Equal(part, zeros[:len(part)]) }

func write(fd int, part []byte, path string) error {
	for len(part) > 0 {
		n, err := unix.Write(fd, part)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return failed("write", path, err)
		}
		if n > 0 {
			part = part[n:]
		}
	}
	return nil
}

func (u *unpacker) symlink(header *tar.Header, path string) error {
	target := header.Linkname
	if target == "" || len(target) > maxPathBytes || strings.IndexByte(target, 0) >= 0 {
		return refuseEntry(Archive, header.Name, "is a symbolic link to no possible name")
	}
	at, name := -1, ""
	err := u.stage.place(path, func(directory int, in string) error {
		at, name = directory, in
		return unix.Symlinkat(target, directory, in)
	})
	if err != nil {
		return err
	}
	if err := setTime(at, name, header.ModTime); err != nil {
		return failed("set the time of", path, err)
	}
	return nil
}

func (u *unpacker) link(header *tar.Header, path string) error {
	target, err := clean(header.Linkname)
	if err != nil {
		return err
	}
	above, _ := split(target)
	if target == "" || u.stage.directories[target] != nil || above != "" && u.stage.directories[above] == nil {
		return refuseEntry(Archive, header.Name, "is a hard link to %.300q, which is no file before it in the archive", header.Linkname)
	}
	if target == path {
		// As it is, if it is: a link to itself changes nothing.
		var stat unix.Stat_t
		if err := unix.Fstatat(u.stage.top, path, &stat, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			return nil
		}
		return refuseEntry(Archive, header.Name, "is a hard link to itself")
	}
	err = u.stage.place(path, func(directory int, name string) error {
		return unix.Linkat(u.stage.top, target, directory, name, 0)
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EPERM):
		return refuseEntry(Archive, header.Name, "is a hard link to %.300q, which is no file before it in the archive", header.Linkname)
	case errors.Is(err, unix.EMLINK):
		return refuseEntry(Archive, header.Name, "is one of more hard links than a file may have")
	}
	return err
}
