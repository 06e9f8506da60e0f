package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
)

func TestVMMsDieWithTheLauncher(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	for name, confined := range map[string]bool{"confined": true, "unconfined": false} {
		t.Run(name, func(t *testing.T) {
			directory := shortDir(t)
			l := spawn(t, directory, 0)
			l.await(t)
			vm := l.mustStart(t, shell("vm_a", "exec sleep 1000", confined))
			innermost(t, int(vm.GetPid()), "sleep")
			all := tree(t, int(vm.GetPid()))
			if want := map[bool]int{true: 3, false: 1}[confined]; len(all) != want {
				t.Errorf("processes: %v", all)
			}
			if err := l.command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-l.ended
			gone(t, all)
			// Another takes the place of the dead one, and cleans up after it.
			l = spawn(t, directory, 0)
			l.await(t)
			if left, err := os.ReadDir(l.vms); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}

func TestTheLauncherOutlivesSignalsOfOthers(t *testing.T) {
	l := start(t)
	vm := l.mustStart(t, shell("vm_a", "exec sleep 1000", false))
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if err := l.command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	l.await(t)
	if err := l.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-l.ended
	gone(t, []int{int(vm.GetPid())})
	left, err := os.ReadDir(filepath.Dir(l.vms))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestEphemeralMicroVMsEndUnclaimed(t *testing.T) {
	l := start(t, "--grace-seconds", "0.5")
	_, _, leave := l.watch(t)
	ephemeral := shell("vm_e", "exec sleep 1000", false)
	ephemeral.Ephemeral = true
	passing := l.mustStart(t, ephemeral)
	lasting := l.mustStart(t, shell("vm_l", "exec sleep 1000", false))
	time.Sleep(800 * time.Millisecond)
	if !alive(int(passing.GetPid())) {
		t.Fatal("it ended while it was claimed")
	}
	leave()
	gone(t, []int{int(passing.GetPid())})
	eventually(t, "its directory is gone", func() bool {
		_, err := os.Stat(passing.GetDirectory())
		return os.IsNotExist(err)
	})
	time.Sleep(700 * time.Millisecond)
	if !alive(int(lasting.GetPid())) {
		t.Fatal("a lasting microVM ended with the lease")
	}
	l.mustKill(t, "vm_l")
	select {
	case <-l.ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the launcher does not end though it holds nothing")
	}
	if l.command.ProcessState.ExitCode() != 0 {
		t.Errorf("exit status %d", l.command.ProcessState.ExitCode())
	}
}

func TestStopEndsTheLauncherWithItsLastMicroVM(t *testing.T) {
	l := start(t)
	_, _, _ = l.watch(t)
	l.mustStart(t, shell("vm_a", "exec sleep 1000", false))
	if _, err := l.Stop(t.Context(), connect.NewRequest(&launchv1.StopRequest{})); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	l.await(t)
	l.mustKill(t, "vm_a")
	select {
	case <-l.ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the launcher does not end")
	}
}

func TestADaemonThatComesAfterAStopKeepsTheLauncher(t *testing.T) {
	l := start(t)
	l.mustStart(t, shell("vm_a", "exec sleep 1000", false))
	if _, err := l.Stop(t.Context(), connect.NewRequest(&launchv1.StopRequest{})); err != nil {
		t.Fatal(err)
	}
	_, state, _ := l.watch(t)
	if len(state.GetVms()) != 1 || state.GetVms()[0].GetVmId() != "vm_a" || state.GetPid() != int32(l.command.Process.Pid) {
		t.Errorf("state: %v", state)
	}
	l.mustKill(t, "vm_a")
	time.Sleep(200 * time.Millisecond)
	l.await(t)
}

func TestOneLauncherForEachSocket(t *testing.T) {
	l := start(t)
	second := exec.Command("/proc/self/exe", launchMode, "--socket", l.socket, "--vms", l.vms)
	text, err := second.CombinedOutput()
	if err != nil || !strings.Contains(string(text), "another launcher serves") {
		t.Fatalf("%v: %s", err, text)
	}
	l.await(t)
}

func TestTenLaunchersAtOnce(t *testing.T) {
	directory := shortDir(t)
	var all []*launcher
	for range 10 {
		all = append(all, spawn(t, directory, 0))
	}
	all[0].await(t)
	eventually(t, "one is left", func() bool {
		left := 0
		for _, l := range all {
			select {
			case <-l.ended:
			default:
				left++
			}
		}
		return left == 1
	})
	all[0].await(t)
}

func TestANewLauncherWaitsForOneThatEnds(t *testing.T) {
	directory := shortDir(t)
	first := spawn(t, directory, 0)
	first.await(t)
	for range 5 {
		vm := first.mustStart(t, shell("vm_a", "exec sleep 1000", false))
		if err := first.command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		// Its socket goes first, its lock last.
		eventually(t, "it is ending", func() bool {
			_, err := os.Stat(first.socket)
			return os.IsNotExist(err)
		})
		second := spawn(t, directory, 0)
		<-first.ended
		second.await(t)
		gone(t, []int{int(vm.GetPid())})
		first = second
	}
}

func TestAHostileDirectoryIsRemoved(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	script := `i=0; while [ $i -lt 200 ]; do mkdir -p d$i/e/f; ln -s / d$i/e/root; echo x > d$i/e/f/g; i=$((i+1)); done
		ln -s /etc/passwd passwd; mv console.log x; ln -s /etc/passwd console.log; chmod 000 d1/e; chmod 000 .; echo done; exec sleep 1000`
	vm := l.mustStart(t, shell("vm_a", script, true))
	eventually(t, "it is done", func() bool {
		text, _ := os.ReadFile(filepath.Join(vm.GetDirectory(), "x"))
		return string(text) == "done\n"
	})
	l.mustKill(t, "vm_a")
	if left, err := os.ReadDir(l.vms); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

func TestAStaleSocketIsReplaced(t *testing.T) {
	directory := shortDir(t)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(directory, "l.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	l := spawn(t, directory, 0)
	l.await(t)
	if info, err := os.Stat(l.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info, err)
	}
}

func TestAFileInPlaceOfTheSocketIsKept(t *testing.T) {
	directory := shortDir(t)
	file := filepath.Join(directory, "l.sock")
	if err := os.WriteFile(file, []byte("words"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := spawn(t, directory, 0)
	<-l.ended
	if text, err := os.ReadFile(file); err != nil || string(text) != "words" || l.command.ProcessState.ExitCode() != 1 {
		t.Errorf("%q, %v, exit status %d", text, err, l.command.ProcessState.ExitCode())
	}
}

func TestOtherUsersAreTurnedAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can play another user")
	}
	needTools(t, "/usr/bin/python3")
	l := start(t)
	// As if the socket's directory and mode had failed to keep others out.
	if err := os.Chmod(l.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	script := `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])
try:
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    answer = s.recv(100)
except (ConnectionResetError, BrokenPipeError):
    answer = b""
print(len(answer) > 0)`
	for uid, want := range map[uint32]string{0: "True", 65534: "False"} {
		command := exec.Command("/usr/bin/python3", "-c", script, l.socket)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		text, err := command.CombinedOutput()
		if err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("user %d is answered: %s (%v)", uid, text, err)
		}
	}
}

func TestAnEndedMicroVMIsRememberedWithItsConsole(t *testing.T) {
	l := start(t)
	stream, _, _ := l.watch(t)
	script := "head -c 200000 /dev/zero | tr '\\0' a; head -c 500000 /dev/zero | tr '\\0' b; echo the end; kill -9 $$"
	vm := l.mustStart(t, shell("vm_a", script, false))
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	ended := stream.Msg().GetEnded()
	if ended.GetVmId() != "vm_a" || ended.GetSignal() != 9 || ended.GetExitCode() != 137 {
		t.Errorf("ended: %v", ended)
	}
	hello, err := l.Hello(t.Context(), connect.NewRequest(&launchv1.HelloRequest{}))
	if err != nil || len(hello.Msg.GetVms()) != 1 || hello.Msg.GetVms()[0].GetRunning() {
		t.Errorf("state: %v (%v)", hello, err)
	}
	text, err := os.ReadFile(filepath.Join(vm.GetDirectory(), "console.log"))
	if err != nil || len(text) > 256<<10 {
		t.Fatalf("console of %d bytes (%v)", len(text), err)
	}
	if !bytes.HasPrefix(text, bytes.Repeat([]byte("a"), 128<<10)) || !bytes.HasSuffix(text, []byte("bbb\x0athe end\n")) &&
		!bytes.HasSuffix(text, []byte("bbbthe end\n")) || !bytes.Contains(text, []byte("bytes left out]")) {
		t.Errorf("console: %q ... %q", text[:20], text[len(text)-100:])
	}
	// The id can be used again, and what was left of the one before is gone.
	vm = l.mustStart(t, shell("vm_a", "echo again; exec sleep 1000", false))
	eventually(t, "the console is new", func() bool {
		text, _ := os.ReadFile(filepath.Join(vm.GetDirectory(), "console.log"))
		return string(text) == "again\n"
	})
	_, err = l.StartVm(t.Context(), connect.NewRequest(shell("vm_a", "true", false)))
	wantCode(t, err, connect.CodeAlreadyExists)
}

func TestAProgramThatCannotRunIsToldAtOnce(t *testing.T) {
	l := start(t)
	_, err := l.StartVm(t.Context(), connect.NewRequest(&launchv1.StartVmRequest{VmId: "vm_a", Program: "/no/such"}))
	wantCode(t, err, connect.CodeInternal, "/no/such", "no such file")
	if left, err := os.ReadDir(l.vms); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestAToolThatIsMissingIsNamed(t *testing.T) {
	if _, err := os.Stat("/usr/bin/bwrap"); err == nil {
		// It is looked for in the usual places too: hide it in a mount namespace of the launcher's own.
		needTools(t, "unshare", "mount")
		if os.Geteuid() != 0 {
			t.Skip("only root can hide an installed program")
		}
	}
	directory := shortDir(t)
	l := &launcher{socket: filepath.Join(directory, "l.sock"), vms: filepath.Join(directory, "vms")}
	copyFile(t, "/proc/self/exe", filepath.Join(directory, "launcher"))
	command := exec.Command("unshare", "-m", "sh", "-c", `
		mkdir "$0/empty" && mount --bind "$0/empty" /mnt && cp /usr/bin/setpriv /mnt/ && mount --bind /mnt /usr/bin &&
		exec "$0/launcher" `+launchMode+` --socket "$0/l.sock" --vms "$0/vms"`, directory)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Signal(syscall.SIGTERM); _ = command.Wait() })
	var idle func()
	l.LaunchServiceClient, idle = client(l.socket)
	t.Cleanup(idle)
	l.await(t)
	_, err := l.StartVm(t.Context(), connect.NewRequest(shell("vm_a", "true", true)))
	wantCode(t, err, connect.CodeFailedPrecondition, "tool: bwrap")
}

func TestAStartWhoseCallerLeavesLeavesNothing(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
		_, err := l.StartVm(ctx, connect.NewRequest(shell("vm_a", "exec sleep 1000", true)))
		cancel()
		if err == nil {
			l.mustKill(t, "vm_a")
		}
		eventually(t, "nothing is left", func() bool {
			l.mustKill(t, "vm_a")
			left, err := os.ReadDir(l.vms)
			return err == nil && len(left) == 0
		})
	}
	// No zombies either: the sandbox's process 1 is an orphan when it ends.
	if all := tree(t, l.command.Process.Pid); len(all) != 1 {
		t.Errorf("processes left: %v", all)
	}
}

func TestWrongInputIsRefused(t *testing.T) {
	l := start(t)
	good := func() *launchv1.StartVmRequest { return shell("vm_a", "true", true) }
	for name, spoil := range map[string]func(*launchv1.StartVmRequest){
		"empty id":         func(r *launchv1.StartVmRequest) { r.VmId = "" },
		"id with a path":   func(r *launchv1.StartVmRequest) { r.VmId = "../x" },
		"long id":          func(r *launchv1.StartVmRequest) { r.VmId = strings.Repeat("a", 65) },
		"relative program": func(r *launchv1.StartVmRequest) { r.Program = "sh" },
		"unclean program":  func(r *launchv1.StartVmRequest) { r.Program = "/usr/../bin/sh" },
		"zero in argument": func(r *launchv1.StartVmRequest) { r.Args = []string{"a\x00b"} },
		"zero in path":     func(r *launchv1.StartVmRequest) { r.ReadOnlyPaths = []string{"/a\x00b"} },
		"bind over root":   func(r *launchv1.StartVmRequest) { r.ReadOnlyPaths = []string{"/"} },
		"bind over proc":   func(r *launchv1.StartVmRequest) { r.ReadOnlyPaths = []string{"/proc/self"} },
		"relative file":    func(r *launchv1.StartVmRequest) { r.Files = []*launchv1.VmFile{{Path: "disk"}} },
		"template id":      func(r *launchv1.StartVmRequest) { r.TemplateId = "a/b" },
		"much memory":      func(r *launchv1.StartVmRequest) { r.MemoryMib = 1 << 31 },
		"many arguments":   func(r *launchv1.StartVmRequest) { r.Args = make([]string, 2000) },
	} {
		request := good()
		spoil(request)
		_, err := l.StartVm(t.Context(), connect.NewRequest(request))
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	directory := filepath.Dir(l.vms)
	link, pipe := filepath.Join(directory, "link"), filepath.Join(directory, "pipe")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, "/dev/null", directory, "/no/such"} {
		request := good()
		request.Files = []*launchv1.VmFile{{Path: path, ReadOnly: true}}
		if _, err := l.StartVm(t.Context(), connect.NewRequest(request)); err == nil {
			t.Errorf("%s was handed over", path)
		}
	}
	request := good()
	request.TemplateId = "unknown"
	_, err := l.StartVm(t.Context(), connect.NewRequest(request))
	wantCode(t, err, connect.CodeNotFound, "unknown")
	_, err = l.KillVm(t.Context(), connect.NewRequest(&launchv1.KillVmRequest{VmId: ".."}))
	wantCode(t, err, connect.CodeInvalidArgument)
	_, err = l.PassDisk(t.Context(), connect.NewRequest(&launchv1.PassDiskRequest{VmId: "vm_x", Path: "/etc/passwd"}))
	wantCode(t, err, connect.CodeNotFound)
	for _, args := range [][]string{
		{}, {"--socket", "s", "--vms", "/tmp/v"}, {"--socket", "/tmp/s", "--vms", "/"}, {"--nonsense"},
		{"--socket", "/tmp/v/s", "--vms", "/tmp/v"}, {"--socket", "/tmp/" + strings.Repeat("s", 110), "--vms", "/tmp/v"},
	} {
		command := exec.Command("/proc/self/exe", append([]string{launchMode}, args...)...)
		if _ = command.Run(); command.ProcessState.ExitCode() != 2 {
			t.Errorf("%v: exit status %d", args, command.ProcessState.ExitCode())
		}
	}
}
