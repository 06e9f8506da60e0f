// This file owns the birth of a process: its files, its cgroup, and the fork.
package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/output"
)

// Exit codes of a process that could not be started, as shells give them.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// spawn starts p as spec says. An error means that there shall be no such process; one that cannot be executed
// exists and has exited.
func (p *Process) spawn(spec *Spec) error {
	info, err := os.Stat(spec.Cwd)
	if err != nil {
		return refuse(ErrNotFound, "cwd: %v", err)
	}
	if !info.IsDir() {
		return refuse(ErrNotFound, "cwd: %s: not a directory", spec.Cwd)
	}
	env := make([]string, len(spec.Env))
	for i, entry := range spec.Env {
		env[i] = string(entry)
	}
	attributes := &syscall.SysProcAttr{Setsid: true}
	var who *identity
	if spec.User != "" {
		if who, err = lookupUser(p.table.root, spec.User); err != nil {
			return err
		}
		env = who.withHome(env)
		attributes.Credential = who.credential()
	}
	if p.log, err = p.table.store.NewLog(); err != nil {
		return err
	}
	argv := make([]string, len(spec.Argv))
	for i, arg := range spec.Argv {
		argv[i] = string(arg)
	}
	paths, found := candidates(argv[0], env, spec.Cwd)
	if !found {
		p.input = newInput(nil, false)
		p.fail(codeNotFound, fmt.Sprintf("%s: not found", argv[0]))
		return nil
	}

	files, err := p.openFiles(spec, who)
	if err != nil {
		p.log.Close()
		return err
	}
	defer files.closeChildEnds()
	group, directory, err := openCgroup(p.table.cgroups, spec.ID)
	if err != nil {
		files.closeOwnEnds()
		p.log.Close()
		return err
	}
	defer directory.Close()
	p.group = group
	attributes.UseCgroupFD = true
	attributes.CgroupFD = int(directory.Fd())
	attributes.Setctty = spec.TTY != nil

	// A refusal unless one of the candidates says otherwise.
	failure := error(unix.EACCES)
	for _, path := range paths {
		failure = p.fork(path, argv, &syscall.ProcAttr{Dir: spec.Cwd, Env: env, Files: files.child[:], Sys: attributes})
		if !errors.Is(failure, unix.EACCES) {
			break
		}
	}
	if errors.Is(failure, ErrState) {
		files.closeOwnEnds()
		p.table.retire(group)
		p.log.Close()
		return failure
	}
	if failure != nil {
		files.closeOwnEnds()
		p.table.retire(group)
		p.group = nil
		p.input = newInput(nil, false)
		p.fail(codeNotExecutable, startError(argv[0], failure))
		return nil
	}
	p.attach(spec, files)
	return nil
}

// fork starts the program at path and registers it, so that the reaper knows whose end it sees. The lock of the children
// is not held meanwhile: exec takes as long as the file system that the program is on.
//
// One thing does wait for an exec that hangs, until execTime ends it: a garbage collection, should one come due, and with
// it everything in guestd. The child shares its parent's memory until exec (CLONE_VFORK), and syscall.ForkExec makes that
// clone without telling the runtime that the thread may stay in the kernel. A small program in between that does the exec
// would mend that, and double what each start takes under emulation.
func (p *Process) fork(path string, argv []string, attributes *syscall.ProcAttr) error {
	if err := p.table.beginFork(); err != nil {
		return err
	}
	hung, group := false, p.group
	deadline := time.AfterFunc(p.table.execTime, func() {
		p.mu.Lock()
		hung = true
		p.mu.Unlock()
		// Whoever forks waits for exec, and exec can be waited for in the kernel.
		_ = group.kill()
	})
	handle := -1
	own := *attributes.Sys
	own.PidFD = &handle
	attributes.Sys = &own
	pid, err := syscall.ForkExec(path, argv, attributes)
	deadline.Stop()
	if handle >= 0 {
		defer unix.Close(handle)
	}
	p.table.children.Lock()
	defer p.table.children.Unlock()
	p.mu.Lock()
	if hung {
		// What there is of it is dead, or about to be: the reaper takes it for an orphan.
		pid, err = 0, fmt.Errorf("did not begin to run within %v", p.table.execTime)
	}
	if err == nil {
		p.state.PID = pid
		p.state.Running = true
		p.state.Started = time.Now()
	}
	p.mu.Unlock()
	p.table.endFork(p, pid, handle)
	return err
}

// attach sets everything going that serves a process that runs.
func (p *Process) attach(spec *Spec, files *files) {
	if spec.TTY != nil {
		p.terminal = files.terminal
		p.pumps = []*pump{newPump(files.terminal, p.log, output.Stdout, true)}
	} else {
		p.pumps = []*pump{
			newPump(files.stdout, p.log, output.Stdout, false),
			newPump(files.stderr, p.log, output.Stderr, false),
		}
	}
	target := files.stdin
	if spec.TTY != nil && !spec.NoStdin {
		target = files.terminal
	}
	p.input = newInput(target, spec.TTY != nil)
	for _, pump := range p.pumps {
		go pump.run()
	}
	if spec.Timeout > 0 {
		p.timer = time.AfterFunc(spec.Timeout, p.expire)
	}
	go p.conclude()
}

func startError(name string, err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return name + ": its interpreter or loader was not found"
	case errors.Is(err, unix.ENOEXEC):
		return name + ": not in a format that the guest can run"
	case errors.Is(err, unix.EAGAIN):
		return name + ": the guest has as many processes as it may have"
	}
	return fmt.Sprintf("%s: %v", name, err)
}

// files are both ends of what a process reads and writes.
type files struct {
	// child are descriptors for stdin, stdout and stderr.
	child                           [3]uintptr
	stdin, stdout, stderr, terminal *os.File
}

// openFiles makes the pipes or the terminal. They belong to who will run, so that /dev/stdout can be opened.
func (p *Process) openFiles(spec *Spec, who *identity) (*files, error) {
	f := &files{}
	own := func(fd int) error {
		if who == nil {
			return nil
		}
		return unix.Fchown(fd, int(who.uid), int(who.gid))
	}
	if spec.TTY != nil {
		master, slave, err := openTerminal(*spec.TTY)
		if err != nil {
			return nil, err
		}
		f.terminal = master
		f.child = [3]uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
		if who != nil {
			// The group stays tty's.
			if err := unix.Fchown(slave, int(who.uid), -1); err != nil {
				f.closeChildEnds()
				f.closeOwnEnds()
				return nil, fmt.Errorf("terminal: %w", err)
			}
		}
		return f, nil
	}
	const unset = ^uintptr(0)
	f.child = [3]uintptr{unset, unset, unset}
	fail := func(err error) (*files, error) {
		f.closeChildEnds()
		f.closeOwnEnds()
		return nil, err
	}
	pipe := func(child int, reads bool) (*os.File, error) {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return nil, fmt.Errorf("pipe: %w", err)
		}
		mine, theirs := ends[0], ends[1]
		if reads {
			mine, theirs = theirs, mine
		}
		f.child[child] = uintptr(theirs)
		// Only this end: the other is the process's own, and blocks.
		if err := errors.Join(unix.SetNonblock(mine, true), own(theirs)); err != nil {
			unix.Close(mine)
			return nil, fmt.Errorf("pipe: %w", err)
		}
		return os.NewFile(uintptr(mine), "pipe"), nil
	}
	var err error
	if spec.NoStdin {
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("/dev/null: %w", err)
		}
		f.child[0] = uintptr(null)
	} else if f.stdin, err = pipe(0, true); err != nil {
		return fail(err)
	}
	if f.stdout, err = pipe(1, false); err != nil {
		return fail(err)
	}
	if f.stderr, err = pipe(2, false); err != nil {
		return fail(err)
	}
	return f, nil
}

func (f *files) closeChildEnds() {
	closed := map[uintptr]bool{^uintptr(0): true}
	for _, fd := range f.child {
		if !closed[fd] {
			closed[fd] = true
			unix.Close(int(fd))
		}
	}
}

func (f *files) closeOwnEnds() {
	for _, file := range []*os.File{f.stdin, f.stdout, f.stderr, f.terminal} {
		if file != nil {
			_ = file.Close()
		}
	}
}
