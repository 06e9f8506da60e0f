// This file owns how many processes there may be, so that guestd goes on whatever they do: it dies, and the microVM with
// it, where no thread can be made. Root in the guest can lift the bound, as it can leave its cgroup: it ends only its own
// machine. Memory has no bound of this kind: see boot.PreferTheEnd.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	// taskBytes is what a small process costs the kernel and itself, bytes. As many processes as memory can hold would
	// take the last page of it one by one, and the machine would do nothing but look for pages.
	taskBytes = 320 << 10
	// minTasks is how many processes and threads there may be at least.
	minTasks = 256
)

// tasksFor is how many processes and threads there may be on a machine that has so many bytes available and so many
// threads at most.
func tasksFor(availableBytes, threads uint64) uint64 {
	return max(min(availableBytes/taskBytes, threads/2), minTasks)
}

// bound limits the cgroup above all processes' own.
func bound(root string) error {
	available, err := availableMemory(root + "/proc/meminfo")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(root + "/proc/sys/kernel/threads-max")
	if err != nil {
		return err
	}
	threads, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return err
	}
	// Without the controller there is no such file.
	limit := strconv.AppendUint(nil, tasksFor(available, threads), 10)
	if err := os.WriteFile(root+Cgroups+"/pids.max", limit, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pids.max: %w", err)
	}
	return nil
}

// availableMemory reads how much memory could be had without taking it from anyone, bytes.
func availableMemory(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no MemAvailable", path)
}
