// This file owns one process: what is known of it, and the order of things at its end.
package process

import (
	"context"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/output"
)

// State is what is known of a process at a moment.
type State struct {
	ID          string
	PID         int
	Argv        [][]byte
	Cwd         string
	TTY         bool
	Running     bool
	ExitCode    int
	Signal      int
	TimedOut    bool
	OutOfMemory bool
	// StartError is why it never started.
	StartError     string
	Started, Ended time.Time
	OutputEnd      uint64
	InputOffset    uint64
}

// Process is one that was started, or could not be.
type Process struct {
	table *Table
	// known closes when it has been started or refused; refused is set before.
	known   chan struct{}
	refused error

	log      *output.Log
	input    *input
	group    *cgroup
	terminal *os.File
	pumps    []*pump
	// status gets the wait status from the reaper, once; exited closes when it was taken.
	status chan syscall.WaitStatus
	// wholeTree: nothing of its tree outlives it.
	wholeTree bool
	exited    chan struct{}

	mu    sync.Mutex
	state State
	timer *time.Timer
	// stopping is how its tree is being ended, nil while nobody has asked for that; guarded by mu.
	stopping *stopping
	// reaped: its pid is no longer its own; guarded by table.children, like the ids of the signals that were sent.
	reaped    bool
	signalled []string
}

// State returns what is known now.
func (p *Process) State() State {
	p.mu.Lock()
	state := p.state
	p.mu.Unlock()
	state.OutputEnd = p.log.End()
	state.InputOffset = p.input.offset()
	return state
}

// Log returns its output.
func (p *Process) Log() *output.Log { return p.log }

// WriteInput hands data, which begins at offset of all its input, to its stdin. It waits until the data is accepted
// or ctx ends, and returns how much was accepted so far and whether the process reads no more.
func (p *Process) WriteInput(ctx context.Context, offset uint64, data []byte, eof bool) (uint64, bool, error) {
	return p.input.write(ctx, offset, data, eof)
}

// rememberedSignals is how many signal requests are told from repetitions. The host repeats a call within seconds.
const rememberedSignals = 64

// Signal sends a signal to its process group, or kills its whole tree. False when it had exited. A request that was
// carried out before is not carried out again: the host repeats a call whose answer was lost.
func (p *Process) Signal(request string, signal int, wholeTree bool) (bool, error) {
	key := signal == int(unix.SIGINT) || signal == int(unix.SIGQUIT) || signal == int(unix.SIGTSTP)
	return p.send(request, signal, wholeTree, key)
}

// SignalForeground is Signal to whatever has its terminal.
func (p *Process) SignalForeground(request string, signal int) (bool, error) {
	return p.send(request, signal, false, true)
}

// EndTree kills its whole tree when its process has exited, or after a time at the latest. It does not wait for that.
func (p *Process) EndTree(after time.Duration) {
	go func() {
		late := time.NewTimer(after)
		defer late.Stop()
		select {
		case <-p.exited:
		case <-late.C:
		}
		p.table.children.Lock()
		defer p.table.children.Unlock()
		if p.group == nil {
			return
		}
		if err := p.killTree(); err != nil {
			p.table.report("process %s: ending its tree: %v", p.state.ID, err)
		}
	}()
}

func (p *Process) send(request string, signal int, wholeTree, foreground bool) (bool, error) {
	if !wholeTree && (signal < 1 || signal > 64) {
		return false, refuse(ErrInvalid, "signal: %d is not one of 1 to 64", signal)
	}
	p.table.children.Lock()
	defer p.table.children.Unlock()
	alive := p.state.PID != 0 && !p.reaped
	if wholeTree {
		if p.group == nil {
			return false, nil
		}
		return alive, p.killTree()
	}
	if request != "" && slices.Contains(p.signalled, request) {
		return true, nil
	}
	if !alive {
		return false, nil
	}
	target := p.state.PID
	if p.terminal != nil && foreground {
		if group := foregroundGroup(p.terminal); group > 0 {
			target = group
		}
	}
	if err := unix.Kill(-target, unix.Signal(signal)); err != nil {
		return true, err
	}
	if request != "" {
		p.signalled = append(p.signalled, request)
		p.signalled = p.signalled[max(0, len(p.signalled)-rememberedSignals):]
	}
	return true, nil
}

// killTree ends its cgroup, and its process group where its leader has left that cgroup. Called with table.children.
func (p *Process) killTree() error {
	err := p.group.kill()
	if p.state.PID != 0 && !p.reaped {
		_ = unix.Kill(-p.state.PID, unix.SIGKILL)
	}
	return err
}

// Resize sets the size of its terminal.
func (p *Process) Resize(size Size) error {
	if p.terminal == nil {
		return refuse(ErrState, "the process has no terminal")
	}
	p.mu.Lock()
	running := p.state.Running
	p.mu.Unlock()
	if !running {
		return refuse(ErrState, "the process has exited")
	}
	err := control(p.terminal, func(fd int) error { return setSize(fd, size) })
	if err != nil {
		return refuse(ErrState, "the process has exited")
	}
	return nil
}

// expire ends the whole tree because its time is over.
func (p *Process) expire() {
	p.table.children.Lock()
	defer p.table.children.Unlock()
	if p.reaped {
		return
	}
	p.mu.Lock()
	p.state.TimedOut = true
	p.mu.Unlock()
	if err := p.killTree(); err != nil {
		p.table.report("process %s: killing it after its time: %v", p.state.ID, err)
	}
}

// conclude waits for its end and then for what it printed. Its background children are not waited for, unless its tree is
// being stopped: what they print later is read and thrown away, so that they never block.
func (p *Process) conclude() {
	status := <-p.status
	close(p.exited)
	ended := time.Now()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.endTree()
	p.input.close()
	p.log.Hurry()
	for _, pump := range p.pumps {
		pump.hurry()
	}
	for _, pump := range p.pumps {
		<-pump.drained
	}
	outOfMemory := p.group.outOfMemory()

	p.mu.Lock()
	p.state.Running = false
	p.state.Ended = ended
	p.state.OutOfMemory = outOfMemory
	if status.Signaled() {
		p.state.Signal = int(status.Signal())
		p.state.ExitCode = 128 + p.state.Signal
	} else {
		p.state.ExitCode = status.ExitStatus()
	}
	p.mu.Unlock()
	p.log.Finish()
	p.table.retire(p.group)
}

// fail makes it a process that never ran.
func (p *Process) fail(code int, reason string) {
	p.mu.Lock()
	p.state.ExitCode = code
	p.state.StartError = reason
	p.state.Ended = time.Now()
	p.mu.Unlock()
	p.input.close()
	p.log.Finish()
}
