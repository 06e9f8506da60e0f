package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns a channel and what the host has at the other end.
func pair(t *testing.T) (*channel, *rawPort) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(ends[0]), unix.Close(ends[1]) })
	return &channel{port: &rawPort{ends[0]}}, &rawPort{ends[1]}
}

// hear collects frames until a request is done, by kind.
func hear(t *testing.T, host *rawPort) map[byte]string {
	t.Helper()
	said := map[byte]string{}
	frames := make(chan frame)
	go func() { _ = (&channel{port: host}).receive(frames) }()
	for {
		frame := <-frames
		said[frame.kind] += string(frame.body)
		if frame.kind == kindDone {
			return said
		}
	}
}

func TestCommand(t *testing.T) {
	table := newChildren()
	go table.reap()
	for script, want := range map[string]string{
		"echo out; echo err >&2; exit 7": "7",
		"kill -9 $$":                     "137",
		"(sleep 0.1; exit 3) & exit 0":   "0",
	} {
		guest, host := pair(t)
		done := make(chan map[byte]string)
		go func() { done <- hear(t, host) }()
		err := runCommand(guest, table, &command{Argv: []string{"sh", "-c", script}, Env: os.Environ(), Cwd: "/"})
		if err != nil {
			t.Fatal(err)
		}
		said := <-done
		if said[kindDone] != want {
			t.Errorf("%s: status %s, not %s", script, said[kindDone], want)
		}
		if strings.Contains(script, "echo") && (said[kindStdout] != "out\n" || said[kindStderr] != "err\n") {
			t.Errorf("%s: %q", script, said)
		}
	}
}

func TestPingsAreAnsweredWhateverElseIsAsked(t *testing.T) {
	guest, host := pair(t)
	requests := make(chan frame)
	go func() { _ = guest.receive(requests) }()
	asking := &channel{port: host}
	if err := asking.send(kindPing, nil); err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 5)
	if n, err := host.Read(header); err != nil || n != 5 || header[0] != kindPong {
		t.Fatalf("%q, %v", header[:n], err)
	}
	if err := asking.send(kindFetch, []byte("/x")); err != nil {
		t.Fatal(err)
	}
	if request := <-requests; request.kind != kindFetch || string(request.body) != "/x" {
		t.Fatalf("%q", request)
	}
}
