// This file owns the stdin of a process: a bounded buffer between the host and the pipe or terminal.
package process

import (
	"context"
	"os"
	"sync"
)

// inputLimit is how much input waits for a process that does not read, bytes.
const inputLimit = 256 << 10

type input struct {
	terminal bool

	mu sync.Mutex
	// target is nil when there is no stdin to write to.
	target *os.File
	// accepted counts the bytes taken so far; waiting are those not yet handed to a write, writing counts those in one.
	accepted uint64
	waiting  []byte
	writing  int
	// eof: nothing follows. closed: nothing more can be written.
	eof, closed bool
	// changed is closed, and replaced, at each change.
	changed chan struct{}
}

// newInput returns the stdin that ends in target; nil is a process without one. A terminal's target is not closed
// with it, as its output comes the same way.
func newInput(target *os.File, terminal bool) *input {
	i := &input{target: target, terminal: terminal, closed: target == nil, changed: make(chan struct{})}
	if target != nil {
		go i.run()
	}
	return i
}

func (i *input) offset() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.accepted
}

// write takes data at offset. Bytes that were accepted before are skipped, so that a call can be made again.
func (i *input) write(ctx context.Context, offset uint64, data []byte, eof bool) (uint64, bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if offset > i.accepted && !i.closed {
		return i.accepted, false, refuse(ErrInvalid, "offset: %d leaves a gap after the %d bytes accepted", offset, i.accepted)
	}
	end := offset + uint64(len(data))
	for {
		switch {
		case i.closed:
			return i.accepted, true, nil
		case i.accepted >= end:
			if eof {
				i.eof = true
				i.announce()
			}
			return i.accepted, false, nil
		case i.eof:
			// Bytes after the end of the input: nobody will read them.
			return i.accepted, true, nil
		}
		if room := inputLimit - len(i.waiting) - i.writing; room > 0 {
			rest := data[i.accepted-offset:]
			rest = rest[:min(room, len(rest))]
			i.waiting = append(i.waiting, rest...)
			i.accepted += uint64(len(rest))
			i.announce()
			continue
		}
		changed := i.changed
		i.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		i.mu.Lock()
		if err := ctx.Err(); err != nil {
			return i.accepted, i.closed, err
		}
	}
}

// close ends the input: the process has exited, or reads no more.
func (i *input) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return
	}
	i.closed = true
	i.waiting = nil
	i.announce()
	if !i.terminal {
		// Wakes a write that waits for the pipe.
		_ = i.target.Close()
	}
}

// run writes what is accepted until the end of the input.
func (i *input) run() {
	defer i.close()
	partial := false
	for {
		piece, ok := i.take()
		if !ok {
			return
		}
		if len(piece) == 0 {
			if i.terminal {
				typed := []byte{typedEndOfFile}
				if partial {
					// The first only hands over the line that was begun.
					typed = append(typed, typedEndOfFile)
				}
				_, _ = i.target.Write(typed)
			}
			return
		}
		if _, err := i.target.Write(piece); err != nil {
			return
		}
		partial = piece[len(piece)-1] != '\n'
	}
}

// take is called when the piece before is written. It waits for input and returns it; an empty piece is the end of the input, false that nothing can be written.
func (i *input) take() ([]byte, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.writing = 0
	i.announce()
	for len(i.waiting) == 0 && !i.eof && !i.closed {
		changed := i.changed
		i.mu.Unlock()
		<-changed
		i.mu.Lock()
	}
	piece := i.waiting
	i.waiting, i.writing = nil, len(piece)
	return piece, !i.closed
}

// announce wakes everyone who waits. Called with the lock.
func (i *input) announce() {
	close(i.changed)
	i.changed = make(chan struct{})
}
