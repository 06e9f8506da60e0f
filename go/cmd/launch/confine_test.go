package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
)

func TestConfinedVMMAsSeenFromProc(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	disk := filepath.Join(filepath.Dir(l.vms), "disk")
	if err := os.WriteFile(disk, []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	request := shell("vm_a", "exec sleep 1000", true)
	request.Files = []*launchv1.VmFile{{Path: disk}, {Path: disk, ReadOnly: true}}
	request.Labels = map[string]string{"key": "value"}
	vm := l.mustStart(t, request)
	if !vm.GetConfined() || !vm.GetRunning() || vm.GetLabels()["key"] != "value" {
		t.Errorf("odd answer: %v", vm)
	}
	pid := innermost(t, int(vm.GetPid()), "sleep")
	all := tree(t, int(vm.GetPid()))

	for field, want := range map[string]string{
		"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
		"CapBnd": "0000000000000000", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		for _, process := range all {
			if got := status(t, process, field); got != want {
				t.Errorf("%s of %d is %s, want %s", field, process, got, want)
			}
		}
	}
	if os.Geteuid() == 0 {
		uid := strings.Fields(status(t, pid, "Uid"))[0]
		if len(uid) != 10 || !strings.HasPrefix(uid, "19") {
			t.Errorf("the VMM runs as user %s", uid)
		}
		if groups := status(t, pid, "Groups"); groups != "" {
			t.Errorf("the VMM is in groups %s", groups)
		}
		info, err := os.Stat(vm.GetDirectory())
		if err != nil {
			t.Fatal(err)
		}
		if owner := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid); owner != uid || info.Mode().Perm() != 0o700 {
			t.Errorf("its directory belongs to %s with mode %v", owner, info.Mode())
		}
	}
	for _, namespace := range []string{"mnt", "pid", "net", "ipc", "uts", "user"} {
		inside, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, namespace))
		outside, err2 := os.Readlink("/proc/self/ns/" + namespace)
		if err1 != nil || err2 != nil || inside == outside {
			t.Errorf("%s namespace: %s inside, %s outside (%v, %v)", namespace, inside, outside, err1, err2)
		}
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, entry := range descriptors {
		got[entry.Name()], _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, entry.Name()))
	}
	if len(got) != 6 || got["0"] != "/dev/null" || !strings.HasPrefix(got["1"], "pipe:") || got["1"] != got["2"] ||
		got["3"] != "/dev/null" || got["4"] != disk || got["5"] != disk {
		t.Errorf("descriptors: %v", got)
	}
	for fd, want := range map[string]int64{"4": syscall.O_RDWR, "5": syscall.O_RDONLY} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
		_, rest, _ := strings.Cut(string(text), "flags:")
		flags, parseErr := strconv.ParseInt(strings.Fields(rest)[0], 8, 64)
		if err != nil || parseErr != nil || flags&syscall.O_ACCMODE != want {
			t.Errorf("descriptor %s: %s (%v)", fd, text, err)
		}
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); err != nil || string(text) != "1000\n" {
		t.Errorf("oom_score_adj is %q (%v)", text, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Max core file size": "0", "Max open files": "1024"} {
		_, rest, _ := strings.Cut(string(limits), name)
		if fields := strings.Fields(rest); fields[0] != want || fields[1] != want {
			t.Errorf("%s: %v", name, fields[:2])
		}
	}
	l.mustKill(t, "vm_a")
	for _, process := range all {
		// Not even a zombie is left.
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", process)); err == nil {
			t.Errorf("process %d is there after KillVm", process)
		}
	}
	if _, err := os.Stat(vm.GetDirectory()); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	l.mustKill(t, "vm_a")
}

func TestConfinedVMMSeesOnlyItsOwn(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	directory := filepath.Dir(l.vms)
	secret := filepath.Join(directory, "secret")
	readable := filepath.Join(directory, "readable")
	for _, path := range []string{secret, readable} {
		if err := os.WriteFile(path, []byte("words"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	other := l.mustStart(t, shell("vm_other", "exec sleep 1000", true))
	request := shell("vm_a", strings.Join([]string{
		"exec 2>&1", "pwd", "cat " + readable, "echo", "cat " + secret, "ls " + other.GetDirectory(),
		"echo x > " + readable, "echo x > /new", "echo x > /usr/bin/new", "echo mine > file && cat /vm/file",
		"ls -d /proc/[0-9]* | wc -l", "unshare -U true || echo refused", "echo done",
	}, "\n"), true)
	request.ReadOnlyPaths = append(request.ReadOnlyPaths, readable)
	stream, _, _ := l.watch(t)
	vm := l.mustStart(t, request)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if ended := stream.Msg().GetEnded(); ended.GetVmId() != "vm_a" || ended.GetRunning() || ended.GetExitCode() != 0 {
		t.Fatalf("ended: %v", ended)
	}
	text, err := os.ReadFile(filepath.Join(vm.GetDirectory(), "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, want := range []string{
		"/vm", "words", "No such file", "No such file", "Read-only file system", "Read-only file system",
		"Read-only file system", "mine", "", "unshare", "refused", "done",
	} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Fatalf("line %d is not %q:\n%s", i, want, text)
		}
	}
	if !slices.Contains([]string{"3", "4", "5"}, lines[8]) {
		t.Errorf("it sees %s processes", lines[8])
	}
}

func TestEveryVMMHasItsOwnUser(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	if os.Geteuid() != 0 {
		t.Skip("users are switched by root only")
	}
	l := start(t)
	users := map[string]bool{}
	for _, id := range []string{"vm_a", "vm_b", "vm_c"} {
		vm := l.mustStart(t, shell(id, "exec sleep 1000", true))
		users[strings.Fields(status(t, int(vm.GetPid()), "Uid"))[0]] = true
	}
	if len(users) != 3 {
		t.Errorf("users: %v", users)
	}
}

func TestASandboxThatCannotBeMadeIsRefused(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	request := shell("vm_a", "true", true)
	request.ReadOnlyPaths = []string{"/usr/bin", "/no/such/path"}
	_, err := l.StartVm(t.Context(), connect.NewRequest(request))
	wantCode(t, err, connect.CodeFailedPrecondition, "confinement: ", "/no/such/path")
	if left, err := os.ReadDir(l.vms); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if all := tree(t, l.command.Process.Pid); len(all) != 1 {
		t.Errorf("processes left: %v", all)
	}
	// The id is free again.
	l.mustStart(t, shell("vm_a", "exec sleep 1000", true))
}

func TestAnUnprivilegedLauncherConfinesToo(t *testing.T) {
	needTools(t, "bwrap")
	if os.Geteuid() != 0 {
		t.Skip("the other tests run as an unprivileged user already")
	}
	const user = 65534
	directory := shortDir(t)
	if err := os.Chown(directory, user, user); err != nil {
		t.Fatal(err)
	}
	l := spawn(t, directory, user)
	l.await(t)
	vm := l.mustStart(t, shell("vm_a", "exec sleep 1000", true))
	pid := innermost(t, int(vm.GetPid()), "sleep")
	if uid := strings.Fields(status(t, pid, "Uid"))[0]; uid != "65534" {
		t.Errorf("the VMM runs as %s", uid)
	}
	if status(t, pid, "CapBnd") != "0000000000000000" || status(t, pid, "NoNewPrivs") != "1" {
		t.Error("the VMM could gain privileges")
	}
	all := tree(t, int(vm.GetPid()))
	l.mustKill(t, "vm_a")
	gone(t, all)
}

// allLimits is set where every limit must hold, and telling why not will not do.
const allLimits = "PYRO_TEST_ALL_LIMITS"

func TestLimitsHoldOrAreTold(t *testing.T) {
	t.Run("confined", func(t *testing.T) {
		needTools(t, "bwrap", "setpriv")
		checkLimits(t, true)
	})
	t.Run("unconfined", func(t *testing.T) { checkLimits(t, false) })
}

func checkLimits(t *testing.T, confined bool) {
	l := start(t)
	vm := l.mustStart(t, shell("vm_a", "exec sleep 1000", confined))
	pid := innermost(t, int(vm.GetPid()), "sleep")
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := l.Hello(t.Context(), connect.NewRequest(&launchv1.HelloRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, controller := range []string{"memory", "pids", "cpu"} {
		bounded := false
		for line := range strings.Lines(string(groups)) {
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			ours := strings.Contains(parts[2], "/pyro/") && strings.HasSuffix(parts[2], "-vm_a")
			if ours && (parts[1] == "" || slices.Contains(strings.Split(parts[1], ","), controller)) {
				bounded = true
			}
		}
		told := strings.Contains(strings.Join(vm.GetLimitNotes(), "\n"), controller)
		if bounded == told {
			t.Errorf("%s: bounded %v, told %v: %s %v", controller, bounded, told, groups, vm.GetLimitNotes())
		}
		if told && os.Getenv(allLimits) != "" {
			t.Errorf("%s is not bounded: %s %v", controller, groups, vm.GetLimitNotes())
		}
		if slices.Contains(hello.Msg.GetLimits(), controller) == strings.Contains(
			strings.Join(hello.Msg.GetLimitNotes(), "\n"), controller) {
			t.Errorf("%s: the launcher says %v and %v", controller, hello.Msg.GetLimits(), hello.Msg.GetLimitNotes())
		}
	}
	before, _ := filepath.Glob("/sys/fs/cgroup/*/pyro/*-vm_a")
	unified, _ := filepath.Glob("/sys/fs/cgroup/pyro/*-vm_a")
	l.mustKill(t, "vm_a")
	for _, directory := range append(before, unified...) {
		if strings.Contains(string(groups), filepath.Base(directory)) {
			if _, err := os.Stat(directory); err == nil {
				t.Errorf("%s is still there", directory)
			}
		}
	}
}

func TestAVMMThatTakesTooMuchMemoryEnds(t *testing.T) {
	l := start(t)
	stream, _, _ := l.watch(t)
	// Without translated code its bound is 64 + 256 MiB. tail keeps the endless line in memory.
	request := shell("vm_a", "exec tail -n 1 /dev/zero", false)
	request.Kvm = true
	vm := l.mustStart(t, request)
	if strings.Contains(strings.Join(vm.GetLimitNotes(), "\n"), "memory") {
		l.mustKill(t, "vm_a")
		t.Skipf("memory cannot be bounded here: %v", vm.GetLimitNotes())
	}
	if !stream.Receive() || stream.Msg().GetEnded().GetSignal() != 9 {
		t.Fatalf("ended: %v %v", stream.Msg(), stream.Err())
	}
}
