// This file owns the start of a microVM: from a checked request to a VMM that runs in its sandbox.

package vmm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"pyro.dev/pyro/go/internal/confine"
)

// setupTime is how long the sandbox may take to be made.
const setupTime = 15 * time.Second

// vmmFiles is how many files a VMM may have open.
const vmmFiles = 1024

// vm is one microVM. Its info, over, doomed and what Keep changes of its spec are guarded by the registry's mutex; the
// rest is set before started closes.
type vm struct {
	spec      Spec
	directory string
	// started is closed when the start has succeeded or failed, ended when the processes are gone.
	started, ended chan struct{}
	info           Info
	over           bool
	// doomed says that its end is decided: from here on it cannot be kept.
	doomed bool

	slot    int
	uid     uint32
	process *os.Process
	// child is a pidfd of process 1 of the sandbox, -1 without a sandbox.
	child   int
	group   *confine.Group
	release func()
	console *console
	// lent are the disks that belong to the VMM's user while it runs.
	lent    []*os.File
	printed chan struct{}
	status  *os.File
	monitor sync.Mutex
	// network is its netd, nil without one. Guarded by the registry's mutex.
	network *network
}

// Start starts a microVM and returns when its sandbox stands and the VMM is about to be executed in it; a VMM that
// ends at once is told to watchers like any other. Errors: ErrExists, ErrClosing, ErrConfinement, confine.ErrTool,
// confine.ErrKVM, those of memory.Use and of opening the files.
func (r *Registry) Start(ctx context.Context, spec Spec) (Info, error) {
	v, err := r.reserve(spec)
	if err != nil {
		return Info{}, err
	}
	err = r.launch(ctx, v)
	r.mutex.Lock()
	if err != nil {
		v.over = true
		delete(r.vms, spec.ID)
		r.freeSlot(v)
		close(v.ended)
	} else {
		v.info = Info{
			ID: spec.ID, PID: v.process.Pid, Directory: v.directory, Root: v.root(), Ephemeral: spec.Ephemeral, Running: true,
			Confined: spec.Confined, TemplateID: spec.TemplateID, Labels: spec.Labels, LimitNotes: v.info.LimitNotes,
		}
	}
	info := v.snapshot()
	close(v.started)
	r.mutex.Unlock()
	if err != nil {
		r.changed()
		return Info{}, err
	}
	go r.wait(v)
	return info, nil
}

func (r *Registry) reserve(spec Spec) (*vm, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.closing {
		return nil, ErrClosing
	}
	v := &vm{
		spec: spec, directory: filepath.Join(r.directory, spec.ID),
		started: make(chan struct{}), ended: make(chan struct{}), slot: -1, child: -1,
	}
	if old, ok := r.vms[spec.ID]; ok {
		if !old.over {
			return nil, ErrExists
		}
		// Only its last words are left of it.
		aside, err := r.setAside(spec.ID)
		if err != nil {
			return nil, fmt.Errorf("remove what is left of the microVM before: %w", err)
		}
		go os.RemoveAll(aside)
	}
	if spec.Confined && os.Geteuid() == 0 {
		for slot := range r.slots {
			if !r.slots[slot] {
				v.slot = slot
				break
			}
		}
		if v.slot < 0 {
			return nil, fmt.Errorf("%w: %d microVMs run already", ErrConfinement, len(r.slots))
		}
		r.slots[v.slot] = true
		v.uid = r.uidBase + uint32(v.slot)
	}
	r.vms[spec.ID] = v
	return v, nil
}

func (r *Registry) freeSlot(v *vm) {
	if v.slot >= 0 {
		r.slots[v.slot] = false
		v.slot = -1
	}
}

// launch does the work of Start. When it fails nothing is left behind.
func (r *Registry) launch(ctx context.Context, v *vm) (err error) {
	var undo []func()
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	// Descriptors that only the child needs are closed here in any case.
	var given []*os.File
	defer func() {
		for _, file := range given {
			file.Close()
		}
	}()

	var tools confine.Tools
	if v.spec.Confined {
		if tools, err = confine.FindTools(); err != nil {
			return err
		}
	}
	if err := v.checkFiles(); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	given = append(given, null)
	lent := null
	v.release = func() {}
	if v.spec.TemplateID != "" {
		if lent, v.release, err = r.memory.Use(v.spec.TemplateID); err != nil {
			return fmt.Errorf("memory of %s: %w", v.spec.TemplateID, err)
		}
		given = append(given, lent)
		undo = append(undo, v.release)
	}
	files := []*os.File{null, nil, nil, lent}
	for _, file := range v.spec.Files {
		if file.Empty > 0 {
			continue
		}
		opened, err := file.open()
		if err != nil {
			return err
		}
		given = append(given, opened)
		if file.Name == "" {
			files = append(files, opened)
		}
	}

	var relays []*relay
	undo = append(undo, func() {
		for _, port := range relays {
			port.close()
		}
	})
	for _, port := range v.spec.Ports {
		made, lent, err := newRelay(v.directory, port)
		if err != nil {
			return err
		}
		relays = append(relays, made)
		given = append(given, lent)
		files = append(files, lent)
	}

	owner := v.uid
	if v.jailed() {
		// Root's: the jail is a directory in it, and all that the VMM gets to.
		owner = 0
	}
	log, err := makeDirectory(v.directory, owner)
	if err != nil {
		return err
	}
	v.console = &console{file: log}
	undo = append(undo, func() { log.Close(); os.RemoveAll(v.directory) })
	if v.jailed() {
		if err := os.MkdirAll(v.root(), 0o700); err != nil {
			return fmt.Errorf("make the jail: %w", err)
		}
		undo = append(undo, v.takeBack)
		if err := v.lendDisks(); err != nil {
			return err
		}
	} else if !v.spec.Confined {
		if err := v.linkNamed(); err != nil {
			return err
		}
	}
	if err := v.makeEmpty(); err != nil {
		return err
	}
	v.group, v.info.LimitNotes = r.cgroups.Make(v.spec.ID, confine.Limits{
		MemoryMiB: v.spec.MemoryMiB, VCPUs: v.spec.VCPUs, KVM: v.spec.KVM,
	})
	undo = append(undo, func() { _ = v.group.Remove() })

	printed, output, err := os.Pipe()
	if err != nil {
		return err
	}
	given = append(given, output)
	files[1], files[2] = output, output
	reports, report, err := os.Pipe()
	if err != nil {
		printed.Close()
		return err
	}
	defer reports.Close()
	given = append(given, report)
	reportFD := len(files)
	files = append(files, report)

	command := append([]string{v.spec.Program}, v.spec.Args...)
	var block *os.File
	if v.spec.Confined {
		var status, blocked *os.File
		if v.status, status, err = os.Pipe(); err == nil {
			blocked, block, err = os.Pipe()
		}
		if err != nil {
			printed.Close()
			return err
		}
		defer block.Close()
		given = append(given, status, blocked)
		undo = append(undo, func() { v.status.Close() })
		files = append(files, status, blocked)
		if command, err = (confine.Sandbox{
			Tools: tools, UID: v.uid, Directory: v.directory, ReadOnly: v.spec.ReadOnly, KVM: v.spec.KVM,
			StatusFD: reportFD + 1, BlockFD: reportFD + 2, Program: v.spec.Program, Args: v.spec.Args,
			Jailer: v.jailer(), Named: v.named(),
		}).Command(); err != nil {
			printed.Close()
			return err
		}
		// bwrap takes this byte and closes the pipe when the sandbox stands.
		if _, err = block.Write([]byte{0}); err != nil {
			printed.Close()
			return err
		}
	}

	jail := ""
	if v.jailed() {
		jail = v.directory
	}
	stage := confine.StageArgs(os.Getpid(), reportFD, v.workingDirectory(), jail, vmmFiles, v.group.Files(), command)
	v.process, err = r.spawner.start(stage, files)
	if err != nil {
		printed.Close()
		return fmt.Errorf("start the VMM: %w", err)
	}
	for _, file := range given {
		file.Close()
	}
	given = nil
	v.printed = make(chan struct{})
	go func() {
		defer close(v.printed)
		defer printed.Close()
		_, _ = io.Copy(v.console, printed)
	}()
	undo = append(undo, func() {
		// Before bwrap is killed, for it would not say any more which child it has, and that child waits for it for ever.
		if v.child < 0 && v.status != nil {
			_ = v.holdChild(time.Now().Add(time.Second))
		}
		_ = v.process.Kill()
		_, _ = v.process.Wait()
		if v.child >= 0 {
			_ = unix.PidfdSendSignal(v.child, unix.SIGKILL, nil, 0)
			_ = awaitExit(v.child, killTime)
			reap(v.child)
			unix.Close(v.child)
		}
	})
	if err := awaitExec(ctx, reports); err != nil {
		return err
	}
	if v.spec.Confined {
		if err := v.awaitSandbox(ctx, block); err != nil {
			return err
		}
	}
	v.info.LimitNotes = append(v.info.LimitNotes, v.group.Joined(v.process.Pid)...)
	for _, port := range relays {
		go port.run()
	}
	return nil
}

// workingDirectory is where the stage goes first. bwrap chooses the place of a confined VMM itself.
func (v *vm) workingDirectory() string {
	if v.spec.Confined {
		return "/"
	}
	return v.directory
}

// awaitExec waits for the stage to be replaced by the program, or to say why it could not.
func awaitExec(ctx context.Context, reports *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = reports.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := reports.SetReadDeadline(time.Now().Add(setupTime)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text, err := io.ReadAll(io.LimitReader(reports, 4096))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("start the VMM: %w", err)
	case len(text) > 0:
		return fmt.Errorf("start the VMM: %s", text)
	}
	return nil
}

// awaitSandbox waits until bwrap has made the sandbox. bwrap reads the byte in the pipe as the last thing before it
// executes the VMM, so when all reading ends are closed, the byte tells whether the sandbox stands.
func (v *vm) awaitSandbox(ctx context.Context, block *os.File) error {
	fd := int(block.Fd())
	deadline := time.Now().Add(setupTime)
	for {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(poll, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%w: %w", ErrConfinement, err)
		}
		if n > 0 {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: the sandbox was not made within %s", ErrConfinement, setupTime)
		}
	}
	left, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfinement, err)
	}
	if left > 0 {
		_ = v.process.Kill()
		select {
		case <-v.printed:
		case <-time.After(time.Second):
		}
		return fmt.Errorf("%w: %s", ErrConfinement, strings.TrimSpace(v.console.tailText(2048)))
	}
	if err := v.holdChild(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrConfinement, err)
	}
	return nil
}

// holdChild learns from bwrap which process is the sandbox's process 1, and takes hold of it.
func (v *vm) holdChild(deadline time.Time) error {
	pid, err := childOfSandbox(v.status, deadline)
	if err != nil {
		return err
	}
	child, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hold process %d: %w", pid, err)
	}
	if !v.isOurs(pid) || unix.PidfdSendSignal(child, 0, nil, 0) != nil {
		// The sandbox's process has gone, and its number is another's by now.
		unix.Close(child)
		return nil
	}
	v.child = child
	return nil
}

// childOfSandbox reads from bwrap's status which process is the sandbox's process 1.
func childOfSandbox(status *os.File, deadline time.Time) (int, error) {
	if err := status.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(status).ReadBytes('\n')
	if err != nil {
		return 0, fmt.Errorf("bwrap's status: %w", err)
	}
	var told struct {
		ChildPID int `json:"child-pid"`
	}
	if err := json.Unmarshal(line, &told); err != nil || told.ChildPID <= 0 {
		return 0, fmt.Errorf("bwrap's status was %q", line)
	}
	return told.ChildPID, nil
}

// isOurs tells whether a process is a child of this microVM's bwrap, or came to us when that ended.
func (v *vm) isOurs(pid int) bool { return isChildOf(pid, v.process.Pid) }

// isChildOf tells whether a process is a child of another, or came to us when that ended.
func isChildOf(pid, of int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// pid (name) state parent; the name may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return false
	}
	parent, err := strconv.Atoi(fields[1])
	return err == nil && (parent == of || parent == os.Getpid())
}
