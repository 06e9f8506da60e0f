package confine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// A launcher that was killed leaves groups whose VMMs are still on their way out when the next one takes over.
func TestGroupsOfAnEarlierLauncherAreRemovedWithWhatRunsInThem(t *testing.T) {
	prefix := fmt.Sprintf("test%d", os.Getpid())
	left, _ := NewCgroups(prefix).Make("vm", Limits{VCPUs: 1})
	if len(left.Files()) == 0 {
		t.Skip("no cgroup can be made here: it takes root")
	}
	command := exec.Command("sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = left.Remove()
	})
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for _, file := range left.Files() {
		if err := os.WriteFile(file, []byte(strconv.Itoa(command.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	NewCgroups(prefix)
	for _, directory := range left.directories {
		if _, err := os.Stat(directory); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", directory, err)
		}
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the process in the group was not ended")
	}
}
