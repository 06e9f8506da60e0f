package rootfs

import "testing"

func TestTasksFitIntoMemory(t *testing.T) {
	for _, c := range []struct{ mib, threads, tasks uint64 }{
		{mib: 120, threads: 1900, tasks: 384},
		{mib: 800, threads: 7632, tasks: 2560},
		{mib: 16000, threads: 125000, tasks: 51200},
		{mib: 16000, threads: 20000, tasks: 10000},
		{mib: 10, threads: 100, tasks: minTasks},
	} {
		if got := tasksFor(c.mib<<20, c.threads); got != c.tasks {
			t.Errorf("%d MiB: %d tasks", c.mib, got)
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
