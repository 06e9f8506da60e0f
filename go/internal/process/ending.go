// This file owns the end of all processes at once, before the microVM goes.
package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// EndAll asks every process of the system but this one to end, and kills what is left after the grace time. Only for
// PID 1: it signals everyone.
func (t *Table) EndAll(grace time.Duration) {
	if unix.Kill(-1, unix.SIGTERM) == nil {
		// A stopped process hears it only when it goes on.
		_ = unix.Kill(-1, unix.SIGCONT)
		if !t.gone(grace) {
			_ = unix.Kill(-1, unix.SIGKILL)
			t.gone(grace)
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
