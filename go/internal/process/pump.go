// This file owns the way from a process's pipe or terminal into its log.
package process

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/output"
)

const (
	pumpBytes = 64 << 10
	// terminalRest bounds what is read from a terminal after its process has exited, bytes.
	terminalRest = 1 << 20
	// A terminal gives a line at a time, and each read costs two changes of context: after a short one it is left
	// alone for a moment, to gather more.
	terminalSmall = 1 << 10
	terminalPause = time.Millisecond
	// terminalAbsence is how often a terminal that no process has open is looked at.
	terminalAbsence = 20 * time.Millisecond
)

type pump struct {
	source   *os.File
	log      *output.Log
	stream   output.Stream
	terminal bool
	// drained closes when all that the process wrote before its exit is in the log.
	drained chan struct{}
	// exited closes when the process has.
	exited chan struct{}
}

func newPump(source *os.File, log *output.Log, stream output.Stream, terminal bool) *pump {
	return &pump{
		source: source, log: log, stream: stream, terminal: terminal,
		drained: make(chan struct{}), exited: make(chan struct{}),
	}
}

// hurry says that the process has exited: a wait for more output ends.
func (p *pump) hurry() {
	close(p.exited)
	// Fails only when the pump has seen the end already.
	_ = p.source.SetReadDeadline(time.Unix(1, 0))
}

// run copies until the end of the source, or until hurry and all that is there then; what comes later is discarded.
func (p *pump) run() {
	defer p.source.Close()
	if p.copy() {
		p.drain()
	}
	close(p.drained)
	if p.terminal {
		// The kernel has hung it up with its session's leader.
		return
	}
	if p.source.SetReadDeadline(time.Time{}) == nil {
		_, _ = io.Copy(io.Discard, p.source)
	}
}

// copy returns true when it was hurried.
func (p *pump) copy() bool {
	buffer := make([]byte, pumpBytes)
	for {
		n, err := p.source.Read(buffer)
		if n > 0 && p.log.Append(p.stream, buffer[:n]) != nil {
			return false
		}
		if p.terminal && errors.Is(err, unix.EIO) {
			// Nobody has it open just now, but the session lives: hanging it up would end its leader.
			select {
			case <-p.exited:
			case <-time.After(terminalAbsence):
			}
			continue
		}
		if err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
		if p.terminal && n < terminalSmall {
			time.Sleep(terminalPause)
		}
	}
}

// drain reads what is there now and no more, however much a background child goes on writing.
func (p *pump) drain() {
	_ = control(p.source, func(fd int) error {
		left := terminalRest
		if !p.terminal {
			there, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
			if err != nil {
				return err
			}
			left = there
		}
		buffer := make([]byte, pumpBytes)
		for left > 0 {
			n, err := unix.Read(fd, buffer[:min(left, len(buffer))])
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n <= 0 {
				return err
			}
			left -= n
			if err := p.log.Append(p.stream, buffer[:n]); err != nil {
				return err
			}
		}
		return nil
	})
}
