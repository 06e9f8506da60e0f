package rootfs

import "testing"

func TestBoundsLeaveGuestdItsShare(t *testing.T) {
	for _, c := range []struct{ mib, threads, memoryMiB, tasks uint64 }{
		{mib: 120, threads: 1900, memoryMiB: 104, tasks: 384},
		{mib: 800, threads: 7632, memoryMiB: 750, tasks: 2560},
		{mib: 16000, threads: 125000, memoryMiB: 15000, tasks: 51200},
		{mib: 16000, threads: 20000, memoryMiB: 15000, tasks: 10000},
		{mib: 10, threads: 100, memoryMiB: 16, tasks: minTasks},
	} {
		if got := boundsFor(c.mib<<20, c.threads); got.memoryBytes>>20 != c.memoryMiB || got.tasks != c.tasks {
			t.Errorf("%d MiB: %d MiB, %d tasks", c.mib, got.memoryBytes>>20, got.tasks)
		}
	}
}

func TestAvailableMemory(t *testing.T) {
	if bytes, err := availableMemory("/proc/meminfo"); err != nil || bytes < 1<<20 {
		t.Fatal(bytes, err)
	}
	if _, err := availableMemory("/proc/version"); err == nil {
		t.Fatal("made up a number")
	}
}
