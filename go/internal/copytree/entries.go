// This file owns what is copied of one name: its content, and all that is told of it.
package copytree

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

const (
	bufferBytes = 256 << 10
	// blockBytes is what stat counts blocks in.
	blockBytes = 512
	// mostAttributes is what the kernel gives at most of names, or of one value, bytes.
	mostAttributes = 64 << 10
)

func (c *Copy) file(source, target int, entry, name string, stat *unix.Stat_t) error {
	from, err := unix.Openat(source, entry, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return &Error{name, true, err}
	}
	defer unix.Close(from)
	to, err := unix.Openat(target, entry, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &Error{name, false, err}
	}
	defer unix.Close(to)
	if !c.isBlank(from, name, stat) {
		if err := c.content(from, to, name, stat); err != nil {
			return err
		}
	}
	return c.finish(from, to, name, stat)
}

func (c *Copy) isBlank(from int, name string, stat *unix.Stat_t) bool {
	id := c.options.BlankMachineID
	if id == "" || name != machineID || stat.Size > int64(len(id))+1 {
		return false
	}
	held := make([]byte, len(id)+1)
	n, err := unix.Pread(from, held, 0)
	return err == nil && string(bytes.TrimSuffix(held[:n], []byte("\n"))) == id
}

// content copies data and leaves out holes.
func (c *Copy) content(from, to int, name string, stat *unix.Stat_t) error {
	if stat.Blocks*blockBytes >= stat.Size {
		return c.data(from, to, name, 0, stat.Size)
	}
	for at := int64(0); at < stat.Size; {
		begin, err := unix.Seek(from, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return &Error{name, true, err}
		}
		end, err := unix.Seek(from, begin, unix.SEEK_HOLE)
		if err != nil {
			return &Error{name, true, err}
		}
		if err := c.data(from, to, name, begin, end); err != nil {
			return err
		}
		at = end
	}
	if err := unix.Ftruncate(to, stat.Size); err != nil {
		return &Error{name, false, err}
	}
	return nil
}

func (c *Copy) data(from, to int, name string, begin, end int64) error {
	for at := begin; at < end; {
		n, err := unix.Pread(from, c.buffer[:min(int64(len(c.buffer)), end-at)], at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &Error{name, true, err}
		}
		if n == 0 {
			return &Error{name, true, unix.EIO}
		}
		for rest, place := c.buffer[:n], at; len(rest) > 0; {
			wrote, err := unix.Pwrite(to, rest, place)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return &Error{name, false, err}
			}
			rest, place = rest[wrote:], place+int64(wrote)
		}
		at += int64(n)
		c.bytes.Add(uint64(n))
	}
	return nil
}

// finish gives what is open its owner, attributes, mode and times, in an order in which none undoes another.
func (c *Copy) finish(from, to int, name string, stat *unix.Stat_t) error {
	if stat.Uid != 0 || stat.Gid != 0 {
		if err := unix.Fchown(to, int(stat.Uid), int(stat.Gid)); err != nil {
			return &Error{name, false, err}
		}
	}
	if err := copyAttributes(name, attributes{
		list: func(into []byte) (int, error) { return unix.Flistxattr(from, into) },
		get:  func(key string, into []byte) (int, error) { return unix.Fgetxattr(from, key, into) },
		set:  func(key string, value []byte) error { return unix.Fsetxattr(to, key, value, 0) },
	}); err != nil {
		return err
	}
	if err := unix.Fchmod(to, stat.Mode&0o7777); err != nil {
		return &Error{name, false, err}
	}
	if err := unix.UtimesNanoAt(to, "", times(stat), unix.AT_EMPTY_PATH); err != nil {
		return &Error{name, false, err}
	}
	return nil
}

func (c *Copy) symlink(source, target int, entry, name string, stat *unix.Stat_t) error {
	held := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(source, entry, held)
	if err != nil {
		return &Error{name, true, err}
	}
	if err := unix.Symlinkat(string(held[:n]), target, entry); err != nil {
		return &Error{name, false, err}
	}
	return finishByName(source, target, entry, name, stat)
}

// node copies a device, a fifo or a socket.
func (c *Copy) node(source, target int, entry, name string, stat *unix.Stat_t) error {
	if err := unix.Mknodat(target, entry, stat.Mode&unix.S_IFMT|0o600, int(stat.Rdev)); err != nil {
		return &Error{name, false, err}
	}
	if err := finishByName(source, target, entry, name, stat); err != nil {
		return err
	}
	return nil
}

// finishByName is finish for what is not opened.
func finishByName(source, target int, entry, name string, stat *unix.Stat_t) error {
	if err := unix.Fchownat(target, entry, int(stat.Uid), int(stat.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &Error{name, false, err}
	}
	from, to := byDescriptor(source, entry), byDescriptor(target, entry)
	if err := copyAttributes(name, attributes{
		list: func(into []byte) (int, error) { return unix.Llistxattr(from, into) },
		get:  func(key string, into []byte) (int, error) { return unix.Lgetxattr(from, key, into) },
		set:  func(key string, value []byte) error { return unix.Lsetxattr(to, key, value, 0) },
	}); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		// It is no link: nothing else has its hands on the copy.
		if err := unix.Fchmodat(target, entry, stat.Mode&0o7777, 0); err != nil {
			return &Error{name, false, err}
		}
	}
	if err := unix.UtimesNanoAt(target, entry, times(stat), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &Error{name, false, err}
	}
	return nil
}

func times(stat *unix.Stat_t) []unix.Timespec { return []unix.Timespec{stat.Atim, stat.Mtim} }

// attributes are the extended ones of two files.
type attributes struct {
	list func([]byte) (int, error)
	get  func(string, []byte) (int, error)
	set  func(string, []byte) error
}

func copyAttributes(name string, a attributes) error {
	size, err := a.list(nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil
	}
	if err != nil {
		return &Error{name, true, err}
	}
	names, value := make([]byte, mostAttributes), make([]byte, mostAttributes)
	if size, err = a.list(names); err != nil {
		return &Error{name, true, err}
	}
	for key := range bytes.SplitSeq(names[:size], []byte{0}) {
		// Behind the last, and alone where an overlay keeps all of them to itself.
		if len(key) == 0 {
			continue
		}
		n, err := a.get(string(key), value)
		if err != nil {
			return &Error{name, true, err}
		}
		if err := a.set(string(key), value[:n]); err != nil {
			return &Error{name, false, err}
		}
	}
	return nil
}
