// This file tests files that a VMM has by name, and confinement by a jailer, with one that stands in for Firecracker's:
// the real one is tested where KVM works (test/lab).

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
)

// files makes a file to be read and one to be written to.
func files(t *testing.T, directory string) (base, disk string) {
	t.Helper()
	base, disk = filepath.Join(directory, "base.img"), filepath.Join(directory, "disk.img")
	for _, path := range []string{base, disk} {
		if err := os.WriteFile(path, []byte(filepath.Base(path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return base, disk
}

func named(base, disk string) []*launchv1.VmFile {
	return []*launchv1.VmFile{
		{Name: "base", Path: base, ReadOnly: true},
		{Name: "writable", Path: disk},
		{Name: "aux", EmptyBytes: 1 << 20},
	}
}

func TestUnconfinedVMMHasItsFilesByName(t *testing.T) {
	l := start(t)
	base, disk := files(t, filepath.Dir(l.vms))
	request := shell("vm_named", "cat base; echo -n more >> writable; stat -c %s aux; exec sleep 1000", false)
	request.Files = named(base, disk)
	vm := l.mustStart(t, request)
	if vm.GetRoot() != vm.GetDirectory() {
		t.Errorf("its root is %s, its directory %s", vm.GetRoot(), vm.GetDirectory())
	}
	eventually(t, "it has read and written", func() bool {
		text, err := os.ReadFile(filepath.Join(vm.GetDirectory(), "console.log"))
		return err == nil && string(text) == "base.img1048576\n"
	})
	if text, err := os.ReadFile(disk); err != nil || string(text) != "disk.imgmore" {
		t.Errorf("the disk is %q (%v)", text, err)
	}
	l.mustKill(t, "vm_named")
	if _, err := os.Stat(disk); err != nil {
		t.Errorf("the disk went with the microVM: %v", err)
	}
}

func TestNamedFilesThatCannotBeAreRefused(t *testing.T) {
	l := start(t)
	base, _ := files(t, filepath.Dir(l.vms))
	for name, file := range map[string]*launchv1.VmFile{
		"a path in the name": {Name: "../base", Path: base},
		"a long name":        {Name: strings.Repeat("a", 33), Path: base},
		"both":               {Name: "base", Path: base, EmptyBytes: 1},
		"neither":            {Name: "base"},
		"empty, no name":     {EmptyBytes: 1},
	} {
		request := shell("vm_refused", "true", false)
		request.Files = []*launchv1.VmFile{file}
		if _, err := l.StartVm(t.Context(), connect.NewRequest(request)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	request := shell("vm_refused", "true", true)
	request.Files = []*launchv1.VmFile{{Name: "base", Path: base, ReadOnly: true}}
	if _, err := l.StartVm(t.Context(), connect.NewRequest(request)); err == nil {
		t.Error("a user who cannot reach the file got it by name")
	}
	request.Jailer, request.Files = "/usr/bin/true", []*launchv1.VmFile{{Path: base, ReadOnly: true}}
	if _, err := l.StartVm(t.Context(), connect.NewRequest(request)); err == nil {
		t.Error("a jailed VMM got a descriptor")
	}
}

// seen is what the stand-in for the jailer tells.
type seen struct {
	Args, Environment, Top, Descriptors, Root []string
	UID                                       int
	Write                                     map[string]string
	Device, Status                            string
}

func TestJailerFindsWhatItNeedsAndNothingElse(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	if os.Geteuid() != 0 {
		t.Skip("the jailer is root's")
	}
	jailer := filepath.Join(t.TempDir(), "jailer")
	build := exec.Command("go", "build", "-o", jailer, "./testdata/jailer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	directory := shortDir(t)
	// As /tmp is on many hosts: neither devices nor programs.
	if err := unix.Mount("tmpfs", directory, "tmpfs", unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOSUID, "mode=755"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(directory, unix.MNT_DETACH) })
	l := spawn(t, directory, 0)
	l.await(t)
	base, disk := files(t, directory)
	request := &launchv1.StartVmRequest{
		VmId: "vm_jailed", Program: "/usr/bin/dash", Args: []string{"--api-sock", "api.sock"}, Confined: true, Kvm: true,
		MemoryMib: 64, VcpuCount: 1, Jailer: jailer, Files: named(base, disk),
	}
	vm := l.mustStart(t, request)
	if vm.GetRoot() != vm.GetDirectory()+"/firecracker/vm/root" {
		t.Errorf("its root is %s", vm.GetRoot())
	}
	var s seen
	eventually(t, "the jailer tells", func() bool {
		text, err := os.ReadFile(filepath.Join(vm.GetDirectory(), "console.log"))
		return err == nil && json.NewDecoder(strings.NewReader(string(text))).Decode(&s) == nil
	})
	for _, pair := range [][2]string{
		{"--exec-file", "/firecracker"}, {"--chroot-base-dir", "/vm"}, {"--id", "vm"}, {"--resource-limit", "no-file=1024"},
	} {
		if at := slices.Index(s.Args, pair[0]); at < 0 || s.Args[at+1] != pair[1] {
			t.Errorf("no %s %s in %v", pair[0], pair[1], s.Args)
		}
	}
	if end := slices.Index(s.Args, "--"); end < 0 || !slices.Equal(s.Args[end+1:], request.GetArgs()) {
		t.Errorf("the VMM's arguments: %v", s.Args)
	}
	slices.Sort(s.Top)
	if !slices.Equal(s.Top, []string{"firecracker", "jailer", "proc", "vm"}) {
		t.Errorf("it sees %v", s.Top)
	}
	// Its own listing is the fourth.
	if len(s.Descriptors) > 5 {
		t.Errorf("descriptors: %v", s.Descriptors)
	}
	if s.UID != 0 || s.Device != "works" || len(s.Environment) > 3 {
		t.Errorf("user %d, device %s, environment %v", s.UID, s.Device, s.Environment)
	}
	if s.Write["writable"] != "yes" || s.Write["aux"] != "yes" || !strings.Contains(s.Write["base"], "read-only") {
		t.Errorf("what can be written to: %v", s.Write)
	}
	if !strings.Contains(s.Status, "NoNewPrivs:\t1") {
		t.Error("it could get more privileges")
	}
	uid := func(path string) uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	given := s.Args[slices.Index(s.Args, "--uid")+1]
	if fmt.Sprint(uid(disk)) != given || uid(base) != 0 || fmt.Sprint(uid(vm.GetRoot()+"/aux")) != given {
		t.Errorf("of user %s: the disk is %d's, the base %d's", given, uid(disk), uid(base))
	}
	if err := os.Chmod(disk, 0o4777); err != nil {
		t.Fatal(err)
	}
	pids := tree(t, int(vm.GetPid()))
	l.mustKill(t, "vm_jailed")
	gone(t, pids)
	if info, err := os.Stat(disk); err != nil || uid(disk) != 0 || info.Mode() != 0o600 {
		t.Errorf("after its end the disk is %d's, mode %v (%v)", uid(disk), info.Mode(), err)
	}
	if left, err := os.ReadDir(l.vms); err != nil || len(left) != 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}
