// This file owns the end of all processes at once, before the microVM goes.
package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// EndAll asks every process of the system but this one to end, and kills what is left after the grace time. Nothing is
// started after it was called. Only for PID 1: it signals everyone.
func (t *Table) EndAll(grace time.Duration) {
	if t.refuseMore(); unix.Kill(-1, unix.SIGTERM) == nil || !t.reap() {
		// A stopped process hears it only when it goes on.
		_ = unix.Kill(-1, unix.SIGCONT)
		if !t.gone(grace) {
			t.killed(grace)
		}
	}
}

// refuseMore makes every start from now on a refusal.
func (t *Table) refuseMore() {
	t.children.Lock()
	defer t.children.Unlock()
	t.ending = true
}

// killed kills until no child is left, at most that long: a fork under way may bring another one.
func (t *Table) killed(within time.Duration) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); {
		_ = unix.Kill(-1, unix.SIGKILL)
		if t.gone(100 * time.Millisecond) {
			return
		}
	}
}

// gone waits until no child is left, at most that long.
func (t *Table) gone(within time.Duration) bool {
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if t.reap() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
