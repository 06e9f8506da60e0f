// This file owns the orderly end of one process with all that it started: asked first, killed after the grace time.
package process

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// askedLimit is how many processes of a tree are asked to end; of a larger one the rest is killed.
	askedLimit = 4096
	// killedTime is how long what was killed may take to be gone: a disk that does not answer holds it.
	killedTime = 5 * time.Second
	// A tree is looked at this often while it ends: soon at first, as most end at once.
	firstLook, longestLook = time.Millisecond, 20 * time.Millisecond
)

// stopping is the end of a tree while it comes.
type stopping struct {
	// killAt is when what is left is killed; guarded by the process's mu. sooner hears that it is earlier now.
	killAt time.Time
	sooner chan struct{}
	// gone closes when nothing of the tree lives any more, or what was killed does not go.
	gone chan struct{}
}

// Stop asks everything that it started to end, kills what is left after the grace time, and waits for that. It is done
// also when ctx ends. Of several calls the earliest deadline counts.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if p.group == nil {
		return nil
	}
	select {
	case <-p.stopWithin(grace).gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Process) stopWithin(grace time.Duration) *stopping {
	p.mu.Lock()
	defer p.mu.Unlock()
	killAt := time.Now().Add(grace)
	if s := p.stopping; s != nil {
		if killAt.Before(s.killAt) {
			s.killAt = killAt
			select {
			case s.sooner <- struct{}{}:
			default:
			}
		}
		return s
	}
	s := &stopping{killAt: killAt, sooner: make(chan struct{}, 1), gone: make(chan struct{})}
	p.stopping = s
	go p.stop(s)
	return s
}

func (p *Process) stop(s *stopping) {
	defer close(s.gone)
	p.ask()
	for pause := firstLook; p.lives(); pause = min(2*pause, longestLook) {
		p.mu.Lock()
		left := time.Until(s.killAt)
		p.mu.Unlock()
		if left <= 0 {
			p.killed()
			return
		}
		select {
		case <-time.After(min(pause, left)):
		case <-s.sooner:
		}
	}
}

// ask sends SIGTERM to each process of the tree, once. By handles: a pid may be another's by the time it is used.
func (p *Process) ask() {
	handles := map[int]int{}
	// Root in the workspace may have hidden the list: who was started is asked in any case.
	asked, err := p.Signal("", int(unix.SIGTERM), false)
	if err != nil {
		p.table.report("process %s: asking it to end: %v", p.state.ID, err)
	}
	for _, pid := range p.group.members() {
		if len(handles) == askedLimit {
			break
		}
		if handle, err := unix.PidfdOpen(pid, 0); err == nil {
			handles[pid] = handle
		}
	}
	for _, pid := range p.group.members() {
		if handle, ok := handles[pid]; ok {
			if !asked || !p.grouped(pid) {
				_ = unix.PidfdSendSignal(handle, unix.SIGTERM, nil, 0)
			}
			// A stopped process hears it only when it goes on.
			_ = unix.PidfdSendSignal(handle, unix.SIGCONT, nil, 0)
		}
	}
	for _, handle := range handles {
		unix.Close(handle)
	}
}

// grouped tells whether a process is of the group that was signalled as a whole.
func (p *Process) grouped(pid int) bool {
	group, err := unix.Getpgid(pid)
	return err == nil && group == p.state.PID
}

// lives tells whether anything of the tree does, whatever its cgroup is made to say of the process itself.
func (p *Process) lives() bool {
	if p.group.populated() {
		return true
	}
	p.table.children.Lock()
	defer p.table.children.Unlock()
	return !p.reaped
}

// killed kills the tree and waits until it is gone, for a while.
func (p *Process) killed() {
	p.table.children.Lock()
	err := p.killTree()
	p.table.children.Unlock()
	if err != nil {
		p.table.report("process %s: killing its tree: %v", p.state.ID, err)
	}
	for deadline := time.Now().Add(killedTime); p.lives() && time.Now().Before(deadline); {
		time.Sleep(firstLook)
	}
}

// endTree is called when the process itself has exited: a tree that is being stopped is waited for, and nothing is left
// of one that is not to outlive it.
func (p *Process) endTree() {
	p.mu.Lock()
	s := p.stopping
	p.mu.Unlock()
	switch {
	case s != nil:
		<-s.gone
	case p.wholeTree:
		p.killed()
	}
}
