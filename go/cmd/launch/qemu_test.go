package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	launchv1 "pyro.dev/pyro/go/gen/pyro/launch/v1"
)

const qemuSandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// qemu is a request for a real QEMU with two monitors: the test's and the launcher's.
func qemu(t *testing.T, id string, args ...string) *launchv1.StartVmRequest {
	t.Helper()
	program, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
	return &launchv1.StartVmRequest{
		VmId: id, Program: program, Confined: true, MemoryMib: 64, VcpuCount: 1,
		Args: append([]string{
			"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", qemuSandbox,
			"-qmp", "unix:qmp.sock,server=on,wait=off", "-qmp", "unix:fd.sock,server=on,wait=off",
		}, args...),
	}
}

// monitor is a QMP connection of the test's own.
type monitor struct {
	t       *testing.T
	socket  net.Conn
	replies *json.Decoder
}

func dial(t *testing.T, vm *launchv1.Vm) *monitor {
	t.Helper()
	m := &monitor{t: t}
	eventually(t, "QEMU's monitor answers", func() bool {
		socket, err := net.Dial("unix", filepath.Join(vm.GetDirectory(), "qmp.sock"))
		m.socket = socket
		return err == nil
	})
	t.Cleanup(func() { m.socket.Close() })
	if err := m.socket.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	m.replies = json.NewDecoder(bufio.NewReader(m.socket))
	var greeting map[string]any
	if err := m.replies.Decode(&greeting); err != nil {
		t.Fatal(err)
	}
	m.ask("qmp_capabilities", nil)
	return m
}

func (m *monitor) ask(command string, arguments any) any {
	m.t.Helper()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.socket).Encode(request); err != nil {
		m.t.Fatal(err)
	}
	for {
		var reply map[string]any
		if err := m.replies.Decode(&reply); err != nil {
			m.t.Fatalf("%s: %v", command, err)
		}
		if failure, ok := reply["error"]; ok {
			m.t.Fatalf("%s: %v", command, failure)
		}
		if answer, ok := reply["return"]; ok {
			return answer
		}
	}
}

// field reads a field of an answer that is an object.
func field(answer any, name string) any {
	object, _ := answer.(map[string]any)
	return object[name]
}

func (m *monitor) migrated() {
	m.t.Helper()
	eventually(m.t, "the migration is done", func() bool {
		state := field(m.ask("query-migrate", nil), "status")
		if state == "failed" {
			m.t.Fatal("the migration failed")
		}
		return state == "completed"
	})
}

func (m *monitor) ignoreShared() {
	m.ask("migrate-set-capabilities", map[string]any{
		"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
	})
}

// physical reads a word of the guest's memory.
func (m *monitor) physical(address int) string {
	answer, _ := m.ask("human-monitor-command", map[string]any{"command-line": fmt.Sprintf("xp /1xw %#x", address)}).(string)
	_, value, _ := strings.Cut(strings.TrimSpace(answer), ": ")
	return value
}

func TestADiskIsHandedToARunningQEMU(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	vm := l.mustStart(t, qemu(t, "vm_a", "-machine", "none", "-S"))
	m := dial(t, vm)
	disk := filepath.Join(filepath.Dir(l.vms), "disk")
	// Closed to the VMM's user: only the descriptor opens it.
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	pass := func(path string, readOnly bool, set uint32) error {
		_, err := l.PassDisk(t.Context(), connect.NewRequest(&launchv1.PassDiskRequest{
			VmId: "vm_a", Path: path, ReadOnly: readOnly, FdSet: set,
		}))
		return err
	}
	for i := range 5 {
		if err := pass(disk, i%2 == 1, uint32(7+i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		m.ask("blockdev-add", map[string]any{
			"driver": "file", "node-name": fmt.Sprintf("f%d", i), "filename": fmt.Sprintf("/dev/fdset/%d", 7+i),
			"read-only": i%2 == 1, "locking": "off",
		})
	}
	nodes, _ := m.ask("query-named-block-nodes", nil).([]any)
	if len(nodes) != 5 || field(field(nodes[0], "image"), "virtual-size") != float64(1<<20) {
		t.Errorf("block nodes: %v", nodes)
	}
	link := disk + ".link"
	if err := os.Symlink(disk, link); err != nil {
		t.Fatal(err)
	}
	if err := pass(link, true, 20); err == nil {
		t.Error("a symbolic link was followed")
	}
	wantCode(t, pass(disk+".none", true, 20), connect.CodeNotFound)

	// A VMM that plays tricks with its directory: the monitor is another's socket, or none at all.
	theirs := l.mustStart(t, shell("vm_b", "mkfifo fd.sock; exec sleep 1000", true))
	eventually(t, "the trick is there", func() bool {
		_, err := os.Stat(filepath.Join(theirs.GetDirectory(), "fd.sock"))
		return err == nil
	})
	for _, prepare := range []func(string) error{
		func(string) error { return nil },
		os.Remove,
		func(path string) error { return os.Symlink(filepath.Join(vm.GetDirectory(), "fd.sock"), path) },
		func(path string) error { return os.Rename(filepath.Join(vm.GetDirectory(), "fd.sock"), path) },
	} {
		path := filepath.Join(theirs.GetDirectory(), "fd.sock")
		if err := prepare(path); err != nil {
			if err = os.Remove(path); err == nil {
				err = prepare(path)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err := l.PassDisk(t.Context(), connect.NewRequest(&launchv1.PassDiskRequest{VmId: "vm_b", Path: disk, FdSet: 1}))
		wantCode(t, err, connect.CodeFailedPrecondition, "monitor: ")
	}
}

// The whole life of a template, with the machine's firmware as the guest: boot on fresh memory, freeze, seal, and
// restore twice from the same sealed memory; then once more from what was saved.
func TestQEMUIsFrozenAndRestoredFromSealedMemory(t *testing.T) {
	needTools(t, "bwrap", "setpriv")
	l := start(t)
	directory := filepath.Dir(l.vms)
	const bytes = 64 << 20
	if _, err := l.CreateMemory(t.Context(), connect.NewRequest(&launchv1.CreateMemoryRequest{TemplateId: "t", SizeBytes: bytes})); err != nil {
		t.Fatal(err)
	}
	machine := func(share string) []string {
		return []string{
			"-M", "q35,memory-backend=ram,smm=off,sata=off,smbus=off,usb=off,dump-guest-core=off",
			"-accel", "tcg,thread=multi", "-cpu", "max", "-m", "64M",
			"-object", "memory-backend-file,id=ram,size=64M,mem-path=/proc/self/fd/3,share=" + share,
		}
	}
	// A kernel the VMM's user cannot reach by its path: it comes as a descriptor.
	kernel := filepath.Join(directory, "closed", "kernel")
	if err := os.Mkdir(filepath.Dir(kernel), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kernel, bootSector(), 0o644); err != nil {
		t.Fatal(err)
	}
	request := qemu(t, "vm_template", append(machine("on"), "-device", "virtio-blk-pci,drive=d",
		"-add-fd", "fd=4,set=1", "-blockdev", "driver=file,node-name=f,filename=/dev/fdset/1,read-only=on,locking=off",
		"-blockdev", "driver=raw,node-name=d,file=f,read-only=on")...)
	request.TemplateId = "t"
	request.Files = []*launchv1.VmFile{{Path: kernel, ReadOnly: true}}
	vm := l.mustStart(t, request)
	m := dial(t, vm)
	eventually(t, "the guest has run", func() bool { return m.physical(0x9000) == "0x0badcafe" })
	_, err := l.SealMemory(t.Context(), connect.NewRequest(&launchv1.SealMemoryRequest{TemplateId: "t", SavePath: directory + "/m"}))
	wantCode(t, err, connect.CodeFailedPrecondition, "in use")
	m.ask("stop", nil)
	m.ignoreShared()
	state := filepath.Join(directory, "state")
	received := receive(t, filepath.Join(vm.GetDirectory(), "mig.sock"), state)
	m.ask("migrate", map[string]any{"uri": "unix:mig.sock"})
	m.migrated()
	<-received
	stream, _, _ := l.watch(t)
	m.ask("quit", nil)
	if !stream.Receive() || stream.Msg().GetEnded().GetExitCode() != 0 {
		t.Fatalf("ended: %v %v", stream.Msg(), stream.Err())
	}
	saved, err := l.SealMemory(t.Context(), connect.NewRequest(&launchv1.SealMemoryRequest{TemplateId: "t", SavePath: directory + "/m"}))
	if err != nil {
		t.Fatal(err)
	}
	if data := saved.Msg.GetDataBytes(); data == 0 || data > 16<<20 {
		t.Errorf("%d bytes saved", data)
	}

	restore := func(id string) (*launchv1.Vm, *monitor) {
		request := qemu(t, id, append(machine("off"), "-device", "virtio-blk-pci,drive=d",
			"-blockdev", "driver=null-co,node-name=d,size=1048576,read-zeroes=on,read-only=on",
			"-S", "-incoming", "defer")...)
		request.TemplateId = "t"
		request.Files = []*launchv1.VmFile{{Path: state, ReadOnly: true}}
		vm := l.mustStart(t, request)
		m := dial(t, vm)
		m.ignoreShared()
		m.ask("migrate-incoming", map[string]any{"uri": "fd:4"})
		m.migrated()
		return vm, m
	}
	first, monitor1 := restore("vm_1")
	_, monitor2 := restore("vm_2")
	for _, m := range []*monitor{monitor1, monitor2} {
		if got := m.physical(0x9000); got != "0x0badcafe" {
			t.Errorf("restored memory has %s", got)
		}
		m.ask("cont", nil)
		if got := field(m.ask("query-status", nil), "status"); got != "running" {
			t.Errorf("restored machine is %s", got)
		}
	}
	// The guest counts in its memory: each restored machine in its own.
	eventually(t, "both count", func() bool {
		return monitor1.physical(0x9004) != monitor2.physical(0x9004)
	})
	// Even somebody with all rights, through the VMM's own descriptor, cannot write the template.
	pid := innermost(t, int(first.GetPid()), "qemu-system-x86")
	file, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/3", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the template was written")
	}
	if _, err := unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("the template was mapped for writing")
	}
	for _, field := range []string{"Seccomp", "NoNewPrivs"} {
		if got := status(t, pid, field); got != map[string]string{"Seccomp": "2", "NoNewPrivs": "1"}[field] {
			t.Errorf("%s of QEMU is %s", field, got)
		}
	}

	l.mustKill(t, "vm_1")
	l.mustKill(t, "vm_2")
	if _, err := l.DropMemory(t.Context(), connect.NewRequest(&launchv1.DropMemoryRequest{TemplateId: "t"})); err != nil {
		t.Fatal(err)
	}
	load := &launchv1.LoadMemoryRequest{TemplateId: "t", Path: directory + "/m", SizeBytes: bytes, Sha256: saved.Msg.GetSha256()}
	if loaded, err := l.LoadMemory(t.Context(), connect.NewRequest(load)); err != nil || !loaded.Msg.GetLoaded() {
		t.Fatal(loaded, err)
	}
	_, monitor3 := restore("vm_3")
	if got := monitor3.physical(0x9000); got != "0x0badcafe" {
		t.Errorf("memory loaded from the file has %s", got)
	}
	l.mustKill(t, "vm_3")
	if _, err := l.DropMemory(t.Context(), connect.NewRequest(&launchv1.DropMemoryRequest{TemplateId: "t"})); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(directory + "/m")
	if err != nil {
		t.Fatal(err)
	}
	content[0x9000] ^= 1
	if err := os.WriteFile(directory+"/m", content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = l.LoadMemory(t.Context(), connect.NewRequest(load))
	wantCode(t, err, connect.CodeFailedPrecondition, "digest:")
}

// receive takes a migration at a socket that the VMM's user may reach, into a file.
func receive(t *testing.T, socket, path string) <-chan struct{} {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer listener.Close()
		connection, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer connection.Close()
		file, err := os.Create(path)
		if err == nil {
			_, err = file.ReadFrom(connection)
		}
		if err != nil {
			t.Error(err)
			return
		}
		file.Close()
	}()
	return done
}

// bootSector is a guest: it writes a mark to memory at 0x9000 and then counts at 0x9004 for ever.
func bootSector() []byte {
	code := []byte{
		0xfa, 0x31, 0xc0, 0x8e, 0xd8, // cli; xor ax,ax; mov ds,ax
		0x66, 0xc7, 0x06, 0x00, 0x90, 0xfe, 0xca, 0xad, 0x0b, // mov dword [0x9000],0x0badcafe
		0x66, 0xff, 0x06, 0x04, 0x90, // inc dword [0x9004]
		0xeb, 0xf9, // jmp to inc
	}
	disk := make([]byte, 1<<20)
	copy(disk, code)
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}
