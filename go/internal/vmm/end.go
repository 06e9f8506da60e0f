// This file owns the end of a microVM: waiting for it, and bringing it about.

package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killTime is how long the processes of a microVM may take to go.
const killTime = 5 * time.Second

// wait is the only one that waits for the outermost process. It returns when the microVM is over and told.
func (r *Registry) wait(v *vm) {
	state, err := v.process.Wait()
	if v.child >= 0 {
		// Gone with bwrap as a rule, but the last of them is what counts: process 1 goes when all others have.
		_ = unix.PidfdSendSignal(v.child, unix.SIGKILL, nil, 0)
		_ = awaitExit(v.child, killTime)
		reap(v.child)
	}
	v.group.KillRest()
	r.disconnect(v)
	select {
	case <-v.printed:
	case <-time.After(time.Second):
	}
	v.console.file.Close()
	if v.status != nil {
		v.status.Close()
	}
	removeErr := v.group.Remove()
	v.release()
	v.takeBack()

	r.mutex.Lock()
	v.over = true
	v.info.Running = false
	v.info.ExitCode, v.info.Signal = outcome(v, state, err)
	if removeErr != nil {
		v.info.LimitNotes = append(v.info.LimitNotes, removeErr.Error())
	}
	r.freeSlot(v)
	r.publish(v.snapshot())
	if v.child >= 0 {
		unix.Close(v.child)
		v.child = -1
	}
	close(v.ended)
	r.mutex.Unlock()
	r.changed()

	time.AfterFunc(rememberEnded, func() {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		if r.vms[v.spec.ID] == v {
			delete(r.vms, v.spec.ID)
		}
	})
}

// outcome is the exit status as a shell would tell it, and the signal. bwrap gives a signal on as 128 and more.
func outcome(v *vm, state *os.ProcessState, err error) (code, signal int) {
	if err != nil {
		return 125, 0
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return state.ExitCode(), 0
	case status.Signaled():
		return 128 + int(status.Signal()), int(status.Signal())
	case v.spec.Confined && status.ExitStatus() > 128 && status.ExitStatus() <= 128+64:
		return status.ExitStatus(), status.ExitStatus() - 128
	}
	return status.ExitStatus(), 0
}

// awaitExit waits for the process of a pidfd to be gone.
func awaitExit(pidfd int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// reap takes the exit status of a sandbox's process 1. bwrap ends without doing so, and it falls to the launcher, which
// is the subreaper: not every machine's process 1 takes up orphans.
func reap(pidfd int) {
	for errors.Is(unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED|unix.WNOHANG, nil), unix.EINTR) {
	}
}

// Kill ends a microVM at once, returns when its processes are gone, and removes its directory. One that has ended, or
// is not known, has only the directory removed. Errors: os.ErrDeadlineExceeded when the processes do not go.
func (r *Registry) Kill(ctx context.Context, id string) error {
	r.mutex.Lock()
	v, ok := r.vms[id]
	if ok {
		v.doomed = true
	}
	r.mutex.Unlock()
	if ok {
		select {
		case <-v.started:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := r.end(ctx, v); err != nil {
			return err
		}
	}
	r.mutex.Lock()
	if now, ok := r.vms[id]; ok && now != v {
		// Another of the same id was started meanwhile; the directory is its own.
		r.mutex.Unlock()
		return nil
	}
	delete(r.vms, id)
	aside, err := r.setAside(id)
	r.mutex.Unlock()
	return errors.Join(err, os.RemoveAll(aside))
}

// setAside renames the directory of a microVM that is over, and returns the name to remove it by. A hostile VMM may
// have filled it: removing can take its time and must not be done with the mutex held, which setAside needs.
func (r *Registry) setAside(id string) (string, error) {
	r.asides++
	// No id begins with a dot.
	aside := filepath.Join(r.directory, fmt.Sprintf(".gone-%d", r.asides))
	err := os.Rename(filepath.Join(r.directory, id), aside)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return aside, err
}

func (r *Registry) end(ctx context.Context, v *vm) error {
	r.mutex.Lock()
	if !v.over {
		// Process 1 of the sandbox takes all others with it, and bwrap outside then ends by itself and reaps it.
		if v.child < 0 || unix.PidfdSendSignal(v.child, unix.SIGKILL, nil, 0) != nil {
			_ = v.process.Kill()
		}
	}
	r.mutex.Unlock()
	for _, limit := range []time.Duration{time.Second, killTime - time.Second} {
		select {
		case <-v.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(limit):
			_ = v.process.Kill()
		}
	}
	return fmt.Errorf("microVM %s does not end: %w", v.spec.ID, os.ErrDeadlineExceeded)
}
