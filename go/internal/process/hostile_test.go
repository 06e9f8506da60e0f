// What a hostile guest may put in the way of a process: an exec that hangs, files that are not what they seem, and the
// end of the machine in the middle of a start.
package process

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// freeze makes the cgroup of a process that is yet to be started, frozen: its exec never ends by itself.
func freeze(t *testing.T, table *Table, id string) {
	t.Helper()
	group := filepath.Join(table.cgroups, id)
	if err := errors.Join(os.Mkdir(group, 0o755), os.WriteFile(group+"/cgroup.freeze", []byte("1"), 0)); err != nil {
		t.Fatal(err)
	}
}

// TestAnExecThatHangsHoldsUpNoOtherProcess, as long as no garbage collection comes due: that would wait for the exec, and
// everything for it (see Process.fork). So none is let come due here.
func TestAnExecThatHangsHoldsUpNoOtherProcess(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	table := newTable(t)
	table.execTime = time.Second
	other := start(t, table, shell("other", "sleep 0.3; exit 5"))
	freeze(t, table, "hung")
	begun := time.Now()
	started := make(chan *Process)
	go func() {
		p, err := table.Start(shell("hung", "true"))
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	time.Sleep(50 * time.Millisecond)
	// Other starts, the reaper, signals and the list go on.
	if state, _, _ := result(t, start(t, table, shell("beside", "exit 4"))); state.ExitCode != 4 {
		t.Fatalf("%+v", state)
	}
	if delivered, err := other.Signal("", int(unix.SIGCONT), false); err != nil || !delivered {
		t.Fatal(delivered, err)
	}
	if state, _, _ := result(t, other); state.ExitCode != 5 {
		t.Fatalf("%+v", state)
	}
	if listed := table.List(); len(listed) != 2 || listed[0].ID != "other" || listed[1].ID != "beside" {
		t.Fatalf("%+v", listed)
	}
	if waited := time.Since(begun); waited > 900*time.Millisecond {
		t.Fatalf("the others waited %v for the exec", waited)
	}
	p := <-started
	if state := p.State(); state.Running || state.ExitCode != codeNotExecutable || !strings.Contains(state.StartError, "did not begin") {
		t.Fatalf("%+v", state)
	}
	if state, _, _ := result(t, start(t, table, shell("after", "exit 6"))); state.ExitCode != 6 {
		t.Fatalf("%+v", state)
	}
}

func TestAChildReapedBeforeItIsKnown(t *testing.T) {
	table := newTable(t)
	if err := table.beginFork(); err != nil {
		t.Fatal(err)
	}
	handle := -1
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 9"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{PidFD: &handle},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(handle)
	reaped := func() bool {
		table.children.Lock()
		defer table.children.Unlock()
		_, ok := table.strangers[pid]
		return ok
	}
	for deadline := time.Now().Add(10 * time.Second); !reaped(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child is not reaped while a fork is under way")
		}
	}
	p := &Process{table: table, status: make(chan syscall.WaitStatus, 1)}
	table.children.Lock()
	defer table.children.Unlock()
	table.endFork(p, pid, handle)
	if status := <-p.status; status.ExitStatus() != 9 || !p.reaped {
		t.Fatalf("status %v, reaped %v", status, p.reaped)
	}
	if table.forks != 0 || len(table.strangers) != 0 || len(table.byPID) != 0 {
		t.Fatalf("%d forks, %v, %v", table.forks, table.strangers, table.byPID)
	}
}

func TestNothingStartsOnceAllShallEnd(t *testing.T) {
	table := newTable(t)
	freeze(t, table, "slow")
	started := make(chan error)
	go func() {
		_, err := table.Start(shell("slow", "sleep 60"))
		started <- err
	}()
	time.Sleep(100 * time.Millisecond)
	table.refuseMore()
	if table.reap() {
		t.Fatal("a start under way was overlooked")
	}
	if _, err := table.Start(shell("late", "true")); !errors.Is(err, ErrState) {
		t.Fatalf("a start after the end: %v", err)
	}
	if err := os.WriteFile(filepath.Join(table.cgroups, "slow", "cgroup.freeze"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func TestHostileUserDatabases(t *testing.T) {
	root := t.TempDir()
	passwd, group := root+"/etc/passwd", root+"/etc/group"
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	const alice = "alice:x:1000:1000::/:\n"
	for name, c := range map[string]struct {
		make []func() error
		want string
	}{
		"a loop":        {[]func() error{func() error { return os.Symlink("passwd", passwd) }}, "symbolic links"},
		"a directory":   {[]func() error{func() error { return os.Mkdir(passwd, 0o755) }}, "not a regular file"},
		"a pipe":        {[]func() error{func() error { return unix.Mkfifo(passwd, 0o644) }}, "not a regular file"},
		"a device":      {[]func() error{func() error { return os.Symlink("/dev/zero", passwd) }}, "not a regular file"},
		"the kernel":    {[]func() error{func() error { return os.Symlink("/proc/kmsg", passwd) }}, "user:"},
		"one long line": {[]func() error{write(passwd, strings.Repeat("x", 3<<20))}, "token too long"},
		"beyond limit":  {[]func() error{write(passwd, strings.Repeat("a:x:1:1::/:\n", 400_000)+alice)}, "no user"},
		"many groups":   {[]func() error{write(passwd, alice), write(group, strings.Repeat("g:x:5:alice\n", 70_000))}, "groups"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(passwd), os.RemoveAll(group)); err != nil {
				t.Fatal(err)
			}
			for _, step := range c.make {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan error, 1)
			go func() {
				_, err := lookupUser(root, "alice")
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the lookup hangs")
			}
		})
	}
}
