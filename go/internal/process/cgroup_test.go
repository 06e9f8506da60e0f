package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFifosInPlaceOfACgroupsFilesAreNotWaitedFor(t *testing.T) {
	group := &cgroup{path: t.TempDir()}
	for _, name := range []string{"cgroup.kill", "cgroup.events", "memory.events"} {
		if err := unix.Mkfifo(filepath.Join(group.path, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// With somebody at the other end, and without.
	for _, held := range []bool{false, true} {
		if held {
			other, err := os.OpenFile(filepath.Join(group.path, "memory.events"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			if group.kill() == nil || group.outOfMemory() || group.populated() {
				t.Error("a fifo was taken for the kernel's file")
			}
		}()
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for a fifo")
		}
	}
	if err := (&cgroup{path: group.path + "/none"}).kill(); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
}
