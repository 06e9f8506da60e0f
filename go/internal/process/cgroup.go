// This file owns the cgroup of a process: everything that it starts, whatever becomes of the process itself.
package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cgroup is a directory of the cgroup v2 tree.
type cgroup struct {
	path string
}

// openCgroup makes the cgroup and returns it with an open directory for clone3.
func openCgroup(parent, id string) (*cgroup, *os.File, error) {
	group := &cgroup{path: filepath.Join(parent, id)}
	if err := os.Mkdir(group.path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("cgroup: %w", err)
	}
	directory, err := os.Open(group.path)
	if err != nil {
		return nil, nil, fmt.Errorf("cgroup: %w", err)
	}
	return group, directory, nil
}

// control opens one of its files. Root in the workspace can mount over it: a fifo there would be waited for, by all of
// guestd where a tree is killed.
func (c *cgroup) control(name string, flags int) (int, error) {
	path := filepath.Join(c.path, name)
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, errors.Join(fmt.Errorf("%s is not the cgroup's", path), err)
	}
	return fd, nil
}

// read reads the beginning of one of its files, all of those that are the kernel's and no list.
func (c *cgroup) read(name string) (string, error) {
	return c.readMost(name, 4096)
}

func (c *cgroup) readMost(name string, most int) (string, error) {
	fd, err := c.control(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text := make([]byte, most)
	n, err := unix.Read(fd, text)
	return string(text[:max(n, 0)]), err
}

// members returns the pids of what lives in it and below it, most of them where there are very many.
func (c *cgroup) members() []int {
	// The list of the processes is made page by page: more of it than one read gives is not asked for.
	listed, _ := c.readMost("cgroup.procs", 64<<10)
	var pids []int
	for line := range strings.Lines(listed) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	below, err := os.ReadDir(c.path)
	if err != nil {
		return pids
	}
	for _, entry := range below {
		if entry.IsDir() {
			pids = append(pids, (&cgroup{path: filepath.Join(c.path, entry.Name())}).members()...)
		}
	}
	return pids
}

// kill ends everything in the cgroup and below it.
func (c *cgroup) kill() error {
	fd, err := c.control("cgroup.kill", unix.O_WRONLY)
	if errors.Is(err, os.ErrNotExist) {
		// It was empty and has been removed.
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return err
}

// outOfMemory tells whether the kernel killed something in it for want of memory.
func (c *cgroup) outOfMemory() bool {
	events, err := c.read("memory.events")
	if err != nil {
		return false
	}
	for line := range strings.Lines(events) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(count))
			return err == nil && n > 0
		}
	}
	return false
}

// remove deletes the cgroup and those made below it; false while something lives in it.
func (c *cgroup) remove() bool {
	err := os.Remove(c.path)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return true
	}
	if !errors.Is(err, syscall.EBUSY) || c.populated() {
		return false
	}
	below, err := os.ReadDir(c.path)
	if err != nil {
		return false
	}
	for _, entry := range below {
		if entry.IsDir() {
			(&cgroup{path: filepath.Join(c.path, entry.Name())}).remove()
		}
	}
	return os.Remove(c.path) == nil
}

func (c *cgroup) populated() bool {
	events, err := c.read("cgroup.events")
	return err == nil && strings.Contains(events, "populated 1")
}
