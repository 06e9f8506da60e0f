// This file owns saved memory that VMMs map by name instead of being lent a sealed one: taking it from the VMM that wrote
// it, and knowing that it is still what was taken.

package memory

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Import saves what a VMM wrote into source, sparsely, durably and in one step. Everyone who gets to path may read it: a
// VMM has a user of its own there. It returns the digest and how many bytes were not zero blocks.
func Import(source string, size uint64, path string) (sha256 string, data uint64, err error) {
	file, _, err := openSaved("import", source, size)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	d, err := save(path, file, int64(size))
	if err != nil {
		return "", 0, err
	}
	if err := os.Chmod(path, 0o444); err != nil {
		return "", 0, fmt.Errorf("import memory: %w", err)
	}
	return d.hex(), d.data, nil
}

// identity tells a file from another, and from itself after it was written to.
type identity struct {
	device, inode uint64
	size          int64
	written, kept unix.Timespec
	sha256        string
}

// Checked remembers which saved memories were found good. Its methods may be called at the same time.
type Checked struct {
	// reading is held while a memory is read: who asks for the same one meanwhile finds it known.
	reading sync.Mutex
	mutex   sync.Mutex
	good    map[string]identity
}

// NewChecked knows of no memory.
func NewChecked() *Checked { return &Checked{good: map[string]identity{}} }

// Check tells whether the memory at path is what was saved, and whether it had to be read for that. Errors: ErrDigest.
func (c *Checked) Check(path string, size uint64, sha256 string) (read bool, err error) {
	if c.knows(path, size, sha256) {
		return false, nil
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.knows(path, size, sha256) {
		return false, nil
	}
	file, before, err := openSaved("check", path, size)
	if err != nil {
		return true, err
	}
	defer file.Close()
	d, err := copySparse(nowhere{}, file, int64(size))
	if err != nil {
		return true, fmt.Errorf("check memory: %w", err)
	}
	if d.hex() != sha256 {
		return true, fmt.Errorf("%w: %s has %s, not %s", ErrDigest, path, d.hex(), sha256)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.good[path] = before.as(sha256)
	return true, nil
}

func (c *Checked) knows(path string, size uint64, sha256 string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	known, ok := c.good[path]
	if !ok {
		return false
	}
	file, now, err := openSaved("check", path, size)
	if err != nil {
		delete(c.good, path)
		return false
	}
	file.Close()
	return now.as(sha256) == known
}

func (i identity) as(sha256 string) identity {
	i.sha256 = sha256
	return i
}

// openSaved opens a regular file of that size, never through a symbolic link in its last part. Errors: ErrDigest when it
// has another size.
func openSaved(purpose, path string, size uint64) (*os.File, identity, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, identity{}, fmt.Errorf("%s memory: %w", purpose, err)
	}
	var stat unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &stat)
	switch {
	case err != nil:
		err = fmt.Errorf("%s memory: %w", purpose, err)
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%s memory: %s is not a file", purpose, path)
	case uint64(stat.Size) != size:
		err = fmt.Errorf("%w: %s has %d bytes, not %d", ErrDigest, path, stat.Size, size)
	}
	if err != nil {
		file.Close()
		return nil, identity{}, err
	}
	return file, identity{
		device: stat.Dev, inode: stat.Ino, size: stat.Size, written: stat.Mtim, kept: stat.Ctim,
	}, nil
}

// nowhere takes what is only read.
type nowhere struct{}

func (nowhere) WriteAt(data []byte, _ int64) (int, error) { return len(data), nil }
