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

// kill ends everything in the cgroup and below it.
func (c *cgroup) kill() error {
	err := os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		// It was empty and has been removed.
		return nil
	}
	return err
}

// outOfMemory tells whether the kernel killed something in it for want of memory.
func (c *cgroup) outOfMemory() bool {
	events, err := os.ReadFile(filepath.Join(c.path, "memory.events"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(events)) {
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
	events, err := os.ReadFile(filepath.Join(c.path, "cgroup.events"))
	return err == nil && strings.Contains(string(events), "populated 1")
}
