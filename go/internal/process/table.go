// This file owns the processes that guestd remembers, and the one reaper of all children.
package process

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/output"
)

// usedLimit is how many ids of removed processes are remembered, so that a late repetition starts nothing.
const usedLimit = 4096

// execTime is how long the kernel may take to begin a program. The host waits longer than that for the answer.
const execTime = 20 * time.Second

// Table holds all processes.
type Table struct {
	// root is where the guest's files are, without a slash at its end; empty is the root itself.
	root    string
	cgroups string
	store   *output.Store
	report  func(format string, args ...any)
	// execTime is how long an exec may take.
	execTime time.Duration

	// children is held while a child is registered or reaped: what stands in byPID is exactly what was forked and not
	// yet waited for, so a pid never stands for another process than the one meant.
	children sync.Mutex
	byPID    map[int]*Process
	// forks counts those under way; strangers are the children that were reaped meanwhile and are in no list: one may
	// be what was just forked.
	forks     int
	strangers map[int]syscall.WaitStatus
	// ending: nothing is started any more.
	ending bool

	mu     sync.Mutex
	byID   map[string]*Process
	order  []string
	used   map[string]struct{}
	forget []string

	retiredMu sync.Mutex
	retired   []*cgroup
}

// Config says where a table's processes live.
type Config struct {
	// Root is the directory whose /etc/passwd and /etc/group count; empty is the root.
	Root string
	// Cgroups is an existing cgroup v2 directory, below which each process gets its own.
	Cgroups string
	Store   *output.Store
	// Report gets what nobody can be told otherwise.
	Report func(format string, args ...any)
}

// NewTable returns an empty table. Reap must be called at each SIGCHLD.
func NewTable(config Config) *Table {
	return &Table{
		root:      config.Root,
		cgroups:   config.Cgroups,
		store:     config.Store,
		execTime:  execTime,
		report:    config.Report,
		byPID:     map[int]*Process{},
		strangers: map[int]syscall.WaitStatus{},
		byID:      map[string]*Process{},
		used:      map[string]struct{}{},
	}
}

// Start starts a process, or returns the one that has the id already. What cannot be executed is a process that has
// exited. Errors: ErrInvalid, ErrNotFound (its text begins with "cwd:" or "user:"), ErrState for the id of a removed
// process, else the system's.
func (t *Table) Start(spec Spec) (*Process, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	if p, ok := t.byID[spec.ID]; ok {
		t.mu.Unlock()
		<-p.known
		if p.refused != nil {
			return nil, p.refused
		}
		return p, nil
	}
	if _, ok := t.used[spec.ID]; ok {
		t.mu.Unlock()
		return nil, refuse(ErrState, "process_id: %s was used by a process that was removed", spec.ID)
	}
	p := &Process{
		table:     t,
		known:     make(chan struct{}),
		status:    make(chan syscall.WaitStatus, 1),
		exited:    make(chan struct{}),
		wholeTree: spec.WholeTree,
		state: State{
			ID: spec.ID, Argv: spec.Argv, Cwd: spec.Cwd, TTY: spec.TTY != nil, Started: time.Now(),
		},
	}
	t.byID[spec.ID] = p
	t.order = append(t.order, spec.ID)
	t.mu.Unlock()

	if p.refused = p.spawn(&spec); p.refused != nil {
		t.mu.Lock()
		t.drop(spec.ID)
		t.mu.Unlock()
	}
	close(p.known)
	if p.refused != nil {
		return nil, p.refused
	}
	return p, nil
}

// Get returns a process by id. Errors: ErrNotFound.
func (t *Table) Get(id string) (*Process, error) {
	t.mu.Lock()
	p, ok := t.byID[id]
	t.mu.Unlock()
	if ok {
		<-p.known
	}
	if !ok || p.refused != nil {
		return nil, refuse(ErrNotFound, "process_id: no process %q", id)
	}
	return p, nil
}

// List returns the state of every process, in the order they were started. One that is being started is not known yet,
// and nobody waits for it.
func (t *Table) List() []State {
	t.mu.Lock()
	all := make([]*Process, 0, len(t.order))
	for _, id := range t.order {
		all = append(all, t.byID[id])
	}
	t.mu.Unlock()
	states := make([]State, 0, len(all))
	for _, p := range all {
		select {
		case <-p.known:
			if p.refused == nil {
				states = append(states, p.State())
			}
		default:
		}
	}
	return states
}

// Remove forgets a process that has exited, and its output. Its background children live on. Removing it again is no
// error. Errors: ErrNotFound, ErrState while it runs.
func (t *Table) Remove(id string) error {
	t.mu.Lock()
	_, removed := t.used[id]
	t.mu.Unlock()
	if removed {
		return nil
	}
	p, err := t.Get(id)
	if err != nil {
		return err
	}
	if p.State().Running {
		return refuse(ErrState, "process %s is still running", id)
	}
	t.mu.Lock()
	t.drop(id)
	t.used[id] = struct{}{}
	t.forget = append(t.forget, id)
	if len(t.forget) > usedLimit {
		delete(t.used, t.forget[0])
		t.forget = t.forget[1:]
	}
	t.mu.Unlock()
	p.log.Close()
	return nil
}

// Discard forgets a process that nobody outside knows of, as Remove does, without remembering that its id was used.
func (t *Table) Discard(p *Process) {
	if p.State().Running {
		return
	}
	t.mu.Lock()
	t.drop(p.state.ID)
	t.mu.Unlock()
	p.log.Close()
}

// drop takes id out of the table. Called with the lock.
func (t *Table) drop(id string) {
	delete(t.byID, id)
	for i, other := range t.order {
		if other == id {
			t.order = append(t.order[:i], t.order[i+1:]...)
			return
		}
	}
}

// Reap waits for every child that has ended, one's own or an orphan, and tells the processes among them. Nothing
// else may wait for a child.
func (t *Table) Reap() { t.reap() }

// reap is Reap, and tells whether there is no child left, nor one about to be.
func (t *Table) reap() bool {
	t.children.Lock()
	defer t.children.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return err == unix.ECHILD && t.forks == 0
		}
		if p, ok := t.byPID[pid]; ok {
			delete(t.byPID, pid)
			p.reaped = true
			p.status <- syscall.WaitStatus(status)
		} else if t.forks > 0 {
			t.strangers[pid] = syscall.WaitStatus(status)
		}
	}
}

// beginFork is called before a fork. Errors: ErrState when nothing is started any more.
func (t *Table) beginFork() error {
	t.children.Lock()
	defer t.children.Unlock()
	if t.ending {
		return refuse(ErrState, "the microVM is shutting down")
	}
	t.forks++
	return nil
}

// endFork is called after a fork, with the new child's pid and pidfd; a pid of 0 is none. Called with children.
func (t *Table) endFork(p *Process, pid, handle int) {
	if pid != 0 {
		// By the handle, as the pid of one that was reaped may be another's by now.
		if errors.Is(unix.PidfdSendSignal(handle, 0, nil, 0), unix.ESRCH) {
			p.reaped = true
			p.status <- t.strangers[pid]
		} else {
			t.byPID[pid] = p
		}
	}
	if t.forks--; t.forks == 0 {
		clear(t.strangers)
	}
}

// retire removes a cgroup as soon as it is empty: now, or when another one goes.
func (t *Table) retire(group *cgroup) {
	t.retiredMu.Lock()
	defer t.retiredMu.Unlock()
	left := t.retired[:0]
	for _, other := range append(t.retired, group) {
		if !other.remove() {
			left = append(left, other)
		}
	}
	t.retired = left
}
