// This file owns what the tests share: a real launcher process, a client on its socket, and looks into /proc.

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
	"pyro.dev/pyro/go/gen/pyro/launch/v1/launchv1connect"
	"pyro.dev/pyro/go/internal/confine"
)

// launchMode makes the test's own program the launcher.
const launchMode = "launcher-under-test"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == confine.StageName || os.Args[1] == "--version") {
		main()
		return
	}
	if len(os.Args) > 1 && os.Args[1] == launchMode {
		os.Exit(run(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// launcher is a real launcher process and a client of it.
type launcher struct {
	launchv1connect.LaunchServiceClient
	command     *exec.Cmd
	socket, vms string
	stderr      *buffer
	ended       chan struct{}
}

// buffer is written by a process while the test reads it.
type buffer struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.Write(data)
}

func (b *buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.String()
}

// shortDir is a directory that every user may pass through, with a path short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("/tmp", "pyro-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

// spawn starts a launcher in a directory, as another user where uid is not 0.
func spawn(t *testing.T, directory string, uid int, flags ...string) *launcher {
	t.Helper()
	l := &launcher{
		socket: filepath.Join(directory, "l.sock"), vms: filepath.Join(directory, "vms"),
		stderr: &buffer{}, ended: make(chan struct{}),
	}
	program := "/proc/self/exe"
	if uid != 0 {
		// The go tool's directories are closed to other users.
		program = filepath.Join(directory, "launcher")
		copyFile(t, "/proc/self/exe", program)
	}
	args := append([]string{launchMode, "--socket", l.socket, "--vms", l.vms}, flags...)
	l.command = exec.Command(program, args...)
	l.command.Stderr = l.stderr
	l.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if uid != 0 {
		l.command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	if err := l.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = l.command.Wait(); close(l.ended) }()
	var idle func()
	l.LaunchServiceClient, idle = client(l.socket)
	t.Cleanup(func() {
		idle()
		_ = l.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-l.ended:
		case <-time.After(10 * time.Second):
			t.Error("the launcher does not end on SIGTERM")
			_ = l.command.Process.Kill()
		}
		if t.Failed() {
			t.Logf("launcher: %s", l.stderr)
		}
	})
	return l
}

// start starts a launcher and waits for it to answer.
func start(t *testing.T, flags ...string) *launcher {
	t.Helper()
	l := spawn(t, shortDir(t), 0, flags...)
	l.await(t)
	return l
}

func (l *launcher) await(t *testing.T) {
	t.Helper()
	eventually(t, "the launcher answers", func() bool {
		_, err := l.Hello(t.Context(), connect.NewRequest(&launchv1.HelloRequest{}))
		return err == nil
	})
}

// client is a client on a socket, and what closes its idle connections.
func client(socket string) (launchv1connect.LaunchServiceClient, func()) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}
	calls := launchv1connect.NewLaunchServiceClient(&http.Client{Transport: transport}, "http://launcher")
	return calls, transport.CloseIdleConnections
}

// watch opens a lease and returns the stream behind its first message.
func (l *launcher) watch(t *testing.T) (*connect.ServerStreamForClient[launchv1.WatchResponse], *launchv1.HelloResponse, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := l.Watch(ctx, connect.NewRequest(&launchv1.WatchRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatalf("the watch has no first message: %v", stream.Err())
	}
	state := stream.Msg().GetState()
	if state == nil {
		t.Fatal("the first message of a watch is not the state")
	}
	return stream, state, cancel
}

func (l *launcher) mustStart(t *testing.T, request *launchv1.StartVmRequest) *launchv1.Vm {
	t.Helper()
	response, err := l.StartVm(t.Context(), connect.NewRequest(request))
	if err != nil {
		t.Fatalf("StartVm: %v", err)
	}
	return response.Msg.GetVm()
}

func (l *launcher) mustKill(t *testing.T, id string) {
	t.Helper()
	if _, err := l.KillVm(t.Context(), connect.NewRequest(&launchv1.KillVmRequest{VmId: id})); err != nil {
		t.Fatalf("KillVm: %v", err)
	}
}

// shell is a request that runs a shell script in the VMM's place.
func shell(id, script string, confined bool) *launchv1.StartVmRequest {
	return &launchv1.StartVmRequest{
		VmId: id, Program: "/usr/bin/dash", Args: []string{"-c", script}, ReadOnlyPaths: []string{"/usr/bin"},
		Confined: confined, MemoryMib: 64, VcpuCount: 1,
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func wantCode(t *testing.T, err error, code connect.Code, parts ...string) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("%q does not say %q", err, part)
		}
	}
}

func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tree is a process and all that descend from it.
func tree(t *testing.T, pid int) []int {
	t.Helper()
	found := []int{pid}
	for i := 0; i < len(found); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", found[i]))
		for _, file := range tasks {
			text, _ := os.ReadFile(file)
			for _, word := range strings.Fields(string(text)) {
				child, err := strconv.Atoi(word)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, child)
			}
		}
	}
	return found
}

// innermost waits for the tree below pid to run name, and returns that process.
func innermost(t *testing.T, pid int, name string) int {
	t.Helper()
	found := 0
	eventually(t, name+" runs", func() bool {
		for _, candidate := range tree(t, pid) {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", candidate))
			if strings.TrimSpace(string(comm)) == name {
				found = candidate
			}
		}
		return found != 0
	})
	return found
}

// status reads a field of /proc/PID/status.
func status(t *testing.T, pid int, field string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no %s in /proc/%d/status", field, pid)
	return ""
}

func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func gone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, fmt.Sprintf("processes %v are gone", pids), func() bool { return !slices.ContainsFunc(pids, alive) })
}
