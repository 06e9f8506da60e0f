package readiness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/output"
	"pyro.dev/pyro/go/internal/process"
)

// newTable returns a table with a reaper. Its cgroup takes root to make.
func newTable(t *testing.T) *process.Table {
	t.Helper()
	parent := ""
	for _, candidate := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(candidate + "/cgroup.procs"); err == nil {
			parent = filepath.Join(candidate, fmt.Sprintf("pyro-ready-%d", os.Getpid()))
			break
		}
	}
	if parent == "" {
		t.Skip("this machine has no cgroup v2 tree")
	}
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	table := process.NewTable(process.Config{
		Cgroups: parent, Store: output.NewStore(output.DefaultLimits(0)), Report: t.Errorf,
	})
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			table.Reap()
		}
	}()
	t.Cleanup(func() {
		// Nothing of a look is left, its cgroup least of all.
		deadline := time.Now().Add(5 * time.Second)
		for {
			below, _ := filepath.Glob(parent + "/ready_*")
			for _, group := range below {
				_ = os.Remove(group)
			}
			if os.Remove(parent) == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s is left", parent)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		signal.Stop(children)
		close(children)
	})
	return table
}

func TestCommand(t *testing.T) {
	table := newTable(t)
	look := func(ctx context.Context, script string) error {
		words := [][]byte{[]byte("sh"), []byte("-lc"), []byte(script)}
		env := [][]byte{[]byte("PATH=/usr/bin:/bin"), []byte("WORD=here")}
		return Command(ctx, table, words, env, "/tmp")
	}
	ctx := within(t, 30*time.Second)
	if err := look(ctx, `[ "$WORD" = here ] && [ "$PWD" = /tmp ]`); err != nil {
		t.Fatal(err)
	}
	refused(t, look(ctx, "echo not yet; exit 3"), "exited with 3: not yet")
	refused(t, look(ctx, "kill -9 $$"), "ended by signal 9")
	refused(t, look(ctx, "yes no | head -c 3000000; exit 1"), "no\nno")
	if err := look(ctx, "setsid sleep 1000 & exit 0"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	refused(t, look(within(t, 200*time.Millisecond), "trap '' TERM; echo waiting; sleep 1000"), "did not end in time: waiting")
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("took %v", took)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := look(cancelled, "sleep 1000"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	refused(t, Command(ctx, table, [][]byte{[]byte("/no/such")}, nil, "/"), "not found")
	if err := Command(ctx, table, [][]byte{[]byte("true")}, nil, "/no/such"); !errors.Is(err, process.ErrNotFound) {
		t.Fatal(err)
	}
	if err := Command(ctx, table, nil, nil, "/"); !errors.Is(err, process.ErrInvalid) {
		t.Fatal(err)
	}
	if left := table.List(); len(left) > 0 {
		t.Fatalf("left: %+v", left)
	}
	if reason := Reason(look(ctx, "head -c 100000 /dev/urandom; exit 1")); len(reason) > reasonLimit+10 || strings.Contains(reason, "\x00\x00\x00\x00") {
		t.Fatalf("%d bytes", len(reason))
	}
}
