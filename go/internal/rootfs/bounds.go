// This file owns what all processes together may take of the machine, so that guestd goes on whatever they do: it dies,
// and the microVM with it, where no thread can be made or no page be had. Root in the guest can lift the bounds, as it
// can leave its cgroup: it ends only its own machine.
package rootfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	// memoryReserve is the part of the memory that is free at the mount which stays out of the processes' reach, one
	// in so many; minReserve is the least of it, bytes.
	memoryReserve = 16
	minReserve    = 16 << 20
	// taskBytes is what a small process costs the kernel and itself, bytes. As many processes as memory can hold would
	// take the last page of it one by one, and the machine would do nothing but look for pages.
	taskBytes = 320 << 10
	// minTasks is how many processes and threads there may be at least.
	minTasks = 256
)

// bounds are the limits of the cgroup above all processes' own.
type bounds struct {
	memoryBytes, tasks uint64
}

// boundsFor returns the bounds on a machine that has so many bytes available and so many threads at most.
func boundsFor(availableBytes, threads uint64) bounds {
	reserve := max(availableBytes/memoryReserve, minReserve)
	return bounds{
		memoryBytes: max(availableBytes, 2*reserve) - reserve,
		tasks:       max(min(availableBytes/taskBytes, threads/2), minTasks),
	}
}

// bound limits the processes' cgroup by the controllers that are there.
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
	limits := boundsFor(available, threads)
	for name, value := range map[string]uint64{"memory.max": limits.memoryBytes, "pids.max": limits.tasks} {
		path := root + Cgroups + "/" + name
		if _, err := os.Stat(path); err != nil {
			// Without its controller there is no such file.
			continue
		}
		if err := os.WriteFile(path, strconv.AppendUint(nil, value, 10), 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
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
