package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/output"
)

// cgroupParents are where a cgroup v2 tree may be on the machine that runs the tests.
var cgroupParents = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// newTable returns a table with a reaper, its cgroups below one of the machine's. Making one takes root.
func newTable(t *testing.T) *Table {
	t.Helper()
	var parent string
	for _, candidate := range cgroupParents {
		if _, err := os.Stat(candidate + "/cgroup.procs"); err != nil {
			continue
		}
		parent = filepath.Join(candidate, fmt.Sprintf("pyro-test-%d", os.Getpid()))
		if err := os.Mkdir(parent, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Skipf("no cgroup can be made: %v", err)
		}
		break
	}
	if parent == "" {
		t.Skip("this machine has no cgroup v2 tree")
	}
	table := NewTable(Config{
		Cgroups: parent,
		Store:   output.NewStore(output.DefaultLimits(0)),
		Report:  t.Errorf,
	})
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			table.Reap()
		}
	}()
	t.Cleanup(func() {
		for _, state := range table.List() {
			if p, err := table.Get(state.ID); err == nil {
				_, _ = p.Signal("", 0, true)
			}
		}
		group := &cgroup{path: parent}
		for deadline := time.Now().Add(5 * time.Second); !group.remove(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s is left", parent)
				break
			}
		}
		signal.Stop(children)
		close(children)
	})
	return table
}

func argv(words ...string) [][]byte {
	var all [][]byte
	for _, word := range words {
		all = append(all, []byte(word))
	}
	return all
}

func shell(id, script string) Spec {
	return Spec{ID: id, Argv: argv("sh", "-c", script), Env: argv("PATH=/usr/bin:/bin"), Cwd: "/"}
}

func start(t *testing.T, table *Table, spec Spec) *Process {
	t.Helper()
	p, err := table.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// result reads all output and returns the state at the end.
func result(t *testing.T, p *Process) (state State, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reader, err := p.Log().Attach(0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Detach(false)
	var streams [3]bytes.Buffer
	buffer := make([]byte, 4096)
	for {
		chunk, err := reader.Next(ctx, buffer)
		if errors.Is(err, io.EOF) {
			return p.State(), streams[output.Stdout].String(), streams[output.Stderr].String()
		}
		if err != nil {
			t.Fatal(err)
		}
		streams[chunk.Stream].Write(chunk.Data)
		reader.Took(chunk)
	}
}

func TestExit(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "echo out; echo err >&2; exit 7"))
	state, stdout, stderr := result(t, p)
	if state.Running || state.ExitCode != 7 || stdout != "out\n" || stderr != "err\n" || state.OutputEnd != 8 {
		t.Fatalf("%+v %q %q", state, stdout, stderr)
	}
	if again := start(t, table, shell("a", "exit 1")); again != p {
		t.Fatal("a second start with the id started something")
	}
	if err := table.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Start(shell("a", "exit 1")); !errors.Is(err, ErrState) {
		t.Fatalf("the id of a removed process: %v", err)
	}
}

func TestARepeatedSignalIsSentOnce(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "n=0; trap 'n=$((n+1))' USR1; trap 'echo $n; exit' TERM; echo up; while :; do sleep 0.02; done"))
	time.Sleep(300 * time.Millisecond)
	for _, request := range []string{"one", "one", "two", "one"} {
		if delivered, err := p.Signal(request, int(unix.SIGUSR1), false); err != nil || !delivered {
			t.Fatal(delivered, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := p.Signal("end", 15, false); err != nil {
		t.Fatal(err)
	}
	if _, stdout, _ := result(t, p); stdout != "up\n2\n" {
		t.Fatalf("%q", stdout)
	}
}

func TestDeathBySignal(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "sleep 60"))
	if delivered, err := p.Signal("", 15, false); err != nil || !delivered {
		t.Fatal(delivered, err)
	}
	if state, _, _ := result(t, p); state.ExitCode != 143 || state.Signal != 15 {
		t.Fatalf("%+v", state)
	}
	if delivered, err := p.Signal("", 15, false); err != nil || delivered {
		t.Fatal("delivered to a dead process", err)
	}
	if _, err := p.Signal("", 65, false); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

func TestTimeoutEndsTheTree(t *testing.T) {
	table := newTable(t)
	spec := shell("a", "echo partial; setsid sleep 61 & sleep 62")
	spec.Timeout = 200 * time.Millisecond
	p := start(t, table, spec)
	state, stdout, _ := result(t, p)
	if !state.TimedOut || state.ExitCode != 137 || state.Signal != 9 || stdout != "partial\n" {
		t.Fatalf("%+v %q", state, stdout)
	}
	for deadline := time.Now().Add(5 * time.Second); p.group.populated(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a child in its own session outlived the timeout")
		}
	}
}

func TestBackgroundChildrenHoldNobodyUp(t *testing.T) {
	table := newTable(t)
	begun := time.Now()
	p := start(t, table, shell("a", "(while :; do echo noise; done) & echo main; sleep 0.2"))
	state, stdout, _ := result(t, p)
	if state.ExitCode != 0 || !strings.Contains(stdout, "main\n") || time.Since(begun) > 10*time.Second {
		t.Fatalf("%+v after %v", state, time.Since(begun))
	}
	if !p.group.populated() {
		t.Fatal("the background child did not live on")
	}
	end := p.State().OutputEnd
	time.Sleep(50 * time.Millisecond)
	if p.State().OutputEnd != end {
		t.Fatal("output came after the end")
	}
}

func TestStartErrors(t *testing.T) {
	table := newTable(t)
	directory := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, want := range map[string]int{
		"no-such-program":                      codeNotFound,
		"/no/such/path":                        codeNotFound,
		"":                                     codeNotFound,
		"/":                                    codeNotExecutable,
		write("plain", "x", 0o644):             codeNotExecutable,
		write("no-format", "x\n", 0o755):       codeNotExecutable,
		write("no-interp", "#!/nope\n", 0o755): codeNotExecutable,
	} {
		p := start(t, table, Spec{ID: fmt.Sprintf("p%d", len(table.List())), Argv: argv(name), Cwd: "/"})
		if state, _, _ := result(t, p); state.Running || state.PID != 0 || state.ExitCode != want || state.StartError == "" {
			t.Errorf("%q: %+v", name, state)
		}
	}
}

func TestRefusals(t *testing.T) {
	table := newTable(t)
	good := shell("a", "true")
	for name, c := range map[string]struct {
		change func(*Spec)
		kind   error
		text   string
	}{
		"id":       {func(s *Spec) { s.ID = "../a" }, ErrInvalid, "process_id:"},
		"no argv":  {func(s *Spec) { s.Argv = nil }, ErrInvalid, "argv:"},
		"zero":     {func(s *Spec) { s.Argv = argv("a\x00b") }, ErrInvalid, "argv:"},
		"env":      {func(s *Spec) { s.Env = argv("novalue") }, ErrInvalid, "env:"},
		"relative": {func(s *Spec) { s.Cwd = "tmp" }, ErrInvalid, "cwd:"},
		"no cwd":   {func(s *Spec) { s.Cwd = "/no/such" }, ErrNotFound, "cwd:"},
		"file cwd": {func(s *Spec) { s.Cwd = "/etc/passwd" }, ErrNotFound, "cwd:"},
		"user":     {func(s *Spec) { s.User = "no-such-user" }, ErrNotFound, "user:"},
		"group":    {func(s *Spec) { s.User = "root:no-such-group" }, ErrNotFound, "user:"},
		"timeout":  {func(s *Spec) { s.Timeout = -1 }, ErrInvalid, "timeout_milliseconds:"},
	} {
		spec := good
		c.change(&spec)
		_, err := table.Start(spec)
		if !errors.Is(err, c.kind) || !strings.HasPrefix(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(table.List()) != 0 {
		t.Fatal("a refused process exists")
	}
}

func TestInput(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "sleep 0.3; cat | wc -c"))
	ctx := t.Context()
	if _, _, err := p.WriteInput(ctx, 3, []byte("x"), false); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a gap: %v", err)
	}
	piece := bytes.Repeat([]byte("x"), 100_000)
	for offset := uint64(0); offset < 1_000_000; {
		// Each piece overlaps the one before.
		from := offset - min(offset, 10_000)
		accepted, closed, err := p.WriteInput(ctx, from, piece, false)
		if err != nil || closed || accepted != from+100_000 {
			t.Fatal(accepted, closed, err)
		}
		offset = accepted
	}
	total := p.State().InputOffset
	if _, _, err := p.WriteInput(ctx, total, nil, true); err != nil {
		t.Fatal(err)
	}
	if state, stdout, _ := result(t, p); strings.TrimSpace(stdout) != fmt.Sprint(total) || state.ExitCode != 0 {
		t.Fatalf("%q of %d", stdout, total)
	}
	if _, closed, err := p.WriteInput(ctx, total, []byte("y"), false); err != nil || !closed {
		t.Fatal("after the end", closed, err)
	}
}

func TestInputIsBounded(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "sleep 60"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	accepted, _, err := p.WriteInput(ctx, 0, make([]byte, 1<<20), false)
	if !errors.Is(err, context.DeadlineExceeded) || accepted > inputLimit+(64<<10) {
		t.Fatal(accepted, err)
	}
}

func TestTerminal(t *testing.T) {
	table := newTable(t)
	spec := shell("a", "stty size; read line; echo got $line; cat; echo end")
	spec.TTY = &Size{Columns: 101, Rows: 33}
	p := start(t, table, spec)
	if err := p.Resize(Size{Columns: 7, Rows: 5}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.WriteInput(t.Context(), 0, []byte("word\n"), false); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if _, _, err := p.WriteInput(t.Context(), 5, nil, true); err != nil {
		t.Fatal(err)
	}
	state, stdout, _ := result(t, p)
	if state.ExitCode != 0 || !strings.Contains(stdout, "got word\r\n") || !strings.HasSuffix(stdout, "end\r\n") {
		t.Fatalf("%+v %q", state, stdout)
	}
	if err := p.Resize(Size{Columns: 1, Rows: 1}); !errors.Is(err, ErrState) {
		t.Fatalf("resize after the end: %v", err)
	}
}

func TestUsers(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	passwd := "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1001::/home/alice:/bin/sh\n7:x:70:70::/:\n"
	group := "root:x:0:\nalice:x:1001:\nwheel:x:10:root,alice\n"
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(root+"/etc/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for user, want := range map[string]string{
		"alice":       "alice /home/alice 1000 1001 [1001 10]",
		"1000":        "alice /home/alice 1000 1001 [1001 10]",
		"alice:wheel": "alice /home/alice 1000 10 [10]",
		"4242:4243":   "4242 / 4242 4243 [4243]",
		"4242":        "4242 / 4242 0 [0]",
		"7":           "7 / 70 70 [70]",
	} {
		who, err := lookupUser(root, user)
		if err != nil {
			t.Errorf("%s: %v", user, err)
			continue
		}
		if got := fmt.Sprint(who.name, " ", who.home, " ", who.uid, " ", who.gid, " ", who.groups); got != want {
			t.Errorf("%s: %s", user, got)
		}
	}
	for user, kind := range map[string]error{
		"bob": ErrNotFound, "alice:nobody": ErrNotFound, "4294967295": ErrNotFound, ":": ErrInvalid, "alice:": ErrInvalid,
	} {
		if _, err := lookupUser(root, user); !errors.Is(err, kind) {
			t.Errorf("%s: %v", user, err)
		}
	}
	// A pipe in the file's place is refused, and nobody waits for it.
	if err := errors.Join(os.Remove(root+"/etc/passwd"), unix.Mkfifo(root+"/etc/passwd", 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := lookupUser(root, "alice"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a pipe: %v", err)
	}
}

func TestEndTree(t *testing.T) {
	table := newTable(t)
	// gone is whether the cgroup of p has nobody in it, or is no more, before a time.
	gone := func(p *Process, within time.Duration) bool {
		for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if members, err := os.ReadFile(filepath.Join(p.group.path, "cgroup.procs")); err != nil || len(members) == 0 {
				return true
			}
		}
		return false
	}
	ready := func(p *Process) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); p.State().OutputEnd == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not come up")
			}
		}
	}
	obeys := start(t, table, shell("obeys", "setsid sleep 1000 >/dev/null 2>&1 & echo up; exec sleep 1000"))
	ready(obeys)
	if delivered, err := obeys.Signal("", int(unix.SIGHUP), false); err != nil || !delivered {
		t.Fatal(delivered, err)
	}
	obeys.EndTree(time.Hour)
	if state, _, _ := result(t, obeys); state.Signal != int(unix.SIGHUP) {
		t.Errorf("ended by %d", state.Signal)
	}
	if !gone(obeys, 5*time.Second) {
		t.Error("what it left behind lives on after its end")
	}
	stubborn := start(t, table, shell("stubborn", "trap '' HUP; echo up; while :; do sleep 0.1; done"))
	ready(stubborn)
	if _, err := stubborn.Signal("", int(unix.SIGHUP), false); err != nil {
		t.Fatal(err)
	}
	stubborn.EndTree(50 * time.Millisecond)
	if state, _, _ := result(t, stubborn); state.Signal != int(unix.SIGKILL) {
		t.Errorf("ended by %d", state.Signal)
	}
	// Of one that has ended, nothing is left to be ended.
	stubborn.EndTree(time.Millisecond)
}

func TestSignalForeground(t *testing.T) {
	table := newTable(t)
	spec := shell("foreground", "set -m; echo up; sleep 1000; echo after $?; exec sleep 1000")
	spec.TTY = &Size{Columns: 80, Rows: 24}
	p := start(t, table, spec)
	printed := func(text string) {
		t.Helper()
		reader, err := p.Log().Attach(0)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Detach(false)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var all []byte
		buffer := make([]byte, 4096)
		for !strings.Contains(string(all), text) {
			chunk, err := reader.Next(ctx, buffer)
			if err != nil {
				t.Fatalf("%v after %q", err, all)
			}
			all = append(all, chunk.Data...)
		}
	}
	printed("up")
	for deadline := time.Now().Add(10 * time.Second); foregroundGroup(p.terminal) == p.State().PID; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no other program has the terminal")
		}
	}
	if delivered, err := p.SignalForeground("once", int(unix.SIGTERM)); err != nil || !delivered {
		t.Fatal(delivered, err)
	}
	printed("after 143")
	// The same request again is nothing new: it would end what has the terminal now.
	if delivered, err := p.SignalForeground("once", int(unix.SIGTERM)); err != nil || !delivered {
		t.Fatal(delivered, err)
	}
	if !p.State().Running {
		t.Error("a repeated request was carried out")
	}
}
