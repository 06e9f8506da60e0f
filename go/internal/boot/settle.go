// This file owns what is done last before the microVM may be frozen, so that it is not done again in each that is
// restored: there it costs time and, under emulation, memory for its translation.
package boot

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clockTime is how long the kernel may take to choose its clock, a second as a rule.
const clockTime = 5 * time.Second

// AwaitClock waits until the kernel has chosen its clock for good. It measures the time stamp counter for a second before
// it does, and stops all CPUs for the change: what is frozen before that does both after each restore. A kernel that does
// not tell, or takes its time, is not waited for any longer.
func AwaitClock() {
	for deadline := time.Now().Add(clockTime); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		current, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
		if err != nil || strings.TrimSpace(string(current)) != "tsc-early" {
			return
		}
	}
}

const (
	// heapAhead is how much heap there is before anything needs it, bytes: enough for the calls of a start.
	heapAhead = 4 << 20
	// threadsAhead is how many threads of Go's wait for work. threadTime is how long each is held, so that no two are one.
	threadsAhead = 6
	threadTime   = 20 * time.Millisecond
)

// WarmUp has this program in memory, with a heap and threads to begin with, as it would be after its first calls: a page
// that is touched and a thread that is started after the restore take their time in every microVM.
func WarmUp() error {
	heap := make([]byte, heapAhead)
	for at := 0; at < len(heap); at += os.Getpagesize() {
		heap[at] = 1
	}
	runtime.KeepAlive(heap)
	heap = nil
	runtime.GC()

	var threads sync.WaitGroup
	for range threadsAhead {
		threads.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			wait := unix.NsecToTimespec(threadTime.Nanoseconds())
			_ = unix.Nanosleep(&wait, nil)
		})
	}
	threads.Wait()
	return mapProgram()
}

// mapProgram maps the pages of the program's file, and takes copies of those that may be written.
func mapProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		// FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != program {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		advice := unix.MADV_POPULATE_READ
		if strings.Contains(fields[1], "w") {
			advice = unix.MADV_POPULATE_WRITE
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, uintptr(advice)); errno != 0 {
			return fmt.Errorf("map %s: %w", fields[0], errno)
		}
	}
	return nil
}
