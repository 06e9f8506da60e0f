package process

import (
	"strings"
	"testing"
	"time"
)

// untilPrinted waits for text in what a process prints.
func untilPrinted(t *testing.T, p *Process, text string) {
	t.Helper()
	reader, err := p.Log().Attach(0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Detach(false)
	var all []byte
	buffer := make([]byte, 4096)
	for !strings.Contains(string(all), text) {
		chunk, err := reader.Next(t.Context(), buffer)
		if err != nil {
			t.Fatalf("%v after %q", err, all)
		}
		all = append(all, chunk.Data...)
		reader.Took(chunk)
	}
}

func TestStopAsksTheWholeTreeAndKeepsWhatItSays(t *testing.T) {
	table := newTable(t)
	// The shell dies of the signal at once; what it started, in a session of its own too, has something left to say.
	p := start(t, table, shell("a", `
		ask() { trap 'sleep 0.2; echo '$1' goes; exit' TERM; echo $1 up; while :; do sleep 0.01; done; }
		ask child &
		setsid sh -c 'trap "sleep 0.1; echo stranger goes; exit" TERM; echo stranger up; while :; do sleep 0.01; done' &
		wait`))
	untilPrinted(t, p, "child up")
	untilPrinted(t, p, "stranger up")
	began := time.Now()
	if err := p.Stop(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Fatalf("an obedient tree took %v", took)
	}
	state, stdout, _ := result(t, p)
	if state.Running || !strings.Contains(stdout, "child goes") || !strings.Contains(stdout, "stranger goes") {
		t.Fatalf("%+v %q", state, stdout)
	}
	if p.group.populated() {
		t.Fatal("something lives on")
	}
	if err := p.Stop(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
}

func TestStopKillsWhatDoesNotObey(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "trap '' TERM; echo up; while :; do sleep 0.01; done"))
	untilPrinted(t, p, "up")
	first := make(chan error, 1)
	go func() { first <- p.Stop(t.Context(), time.Hour) }()
	time.Sleep(50 * time.Millisecond)
	if !p.State().Running {
		t.Fatal("it was killed before its time")
	}
	// The shorter grace counts, for both.
	if err := p.Stop(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if state, _, _ := result(t, p); state.Signal != 9 {
		t.Fatalf("%+v", state)
	}
}

func TestStopReachesWhatStandsStill(t *testing.T) {
	table := newTable(t)
	p := start(t, table, shell("a", "trap 'exit 3' TERM; echo up; kill -STOP $$; exit 4"))
	untilPrinted(t, p, "up")
	if err := p.Stop(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if state, _, _ := result(t, p); state.ExitCode != 3 && state.Signal != 15 {
		t.Fatalf("%+v", state)
	}
}

func TestStopOfWhatNeverRan(t *testing.T) {
	table := newTable(t)
	p := start(t, table, Spec{ID: "a", Argv: argv("/no/such"), Cwd: "/"})
	if err := p.Stop(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
}

func TestNothingOutlivesAWholeTree(t *testing.T) {
	table := newTable(t)
	for _, whole := range []bool{true, false} {
		spec := shell(map[bool]string{true: "whole", false: "alone"}[whole], "setsid sleep 1000 & exit 5")
		spec.WholeTree = whole
		p := start(t, table, spec)
		if state, _, _ := result(t, p); state.ExitCode != 5 {
			t.Fatalf("%+v", state)
		}
		if p.group.populated() == whole {
			t.Fatalf("whole tree %v: its child lives %v", whole, !whole)
		}
	}
	// What an ordinary process left is ended by a stop all the same.
	left, err := table.Get("alone")
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Stop(t.Context(), 20*time.Second); err != nil || left.group.populated() {
		t.Fatalf("%v, left: %v", err, left.group.populated())
	}
}
