// This file owns one log: the bytes of a process's output, tagged by stream, under one cursor.
package output

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Stream tells which of its outputs a process wrote to.
type Stream uint8

// The outputs of a process; a terminal is all Stdout.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

const (
	// maxSegments bounds the changes between streams that a log remembers.
	maxSegments = 65536
	// punchBytes is how many dropped bytes are given back to the kernel at a time.
	punchBytes = 256 << 10
	pageBytes  = 4096
)

// ErrClosed is what readers and writers of a closed log get.
var ErrClosed = errors.New("output: the log is closed")

type segment struct {
	start  uint64
	stream Stream
}

// Log is the output of one process. A byte's place in the file is its cursor; what was dropped is a hole.
type Log struct {
	store *Store
	file  *os.File

	// All below are guarded by store.mu.
	start, end, punched uint64
	segments            []segment
	readers             map[*Reader]struct{}
	// heldAt is a cursor that is kept as if a reader stood there, until heldUntil.
	heldAt    uint64
	heldUntil time.Time
	holdTimer *time.Timer
	// hurry: the writer never waits any more. finished: nothing more is written.
	hurry, finished, closed bool
	grown                   chan struct{}
	// ended closes when the log is finished.
	ended chan struct{}
}

// Append writes data, waiting while an attached reader leaves no room. After Hurry it never waits.
func (l *Log) Append(stream Stream, data []byte) error {
	s := l.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if l.closed {
			return ErrClosed
		}
		if s.makeRoom(l, uint64(len(data))) || l.hurry {
			break
		}
		room := s.room
		s.mu.Unlock()
		<-room
		s.mu.Lock()
	}
	if _, err := l.file.WriteAt(data, int64(l.end)); err != nil {
		return fmt.Errorf("output: writing: %w", err)
	}
	if len(l.segments) == 0 || l.segments[len(l.segments)-1].stream != stream {
		l.segments = append(l.segments, segment{l.end, stream})
	}
	l.end += uint64(len(data))
	s.used += uint64(len(data))
	l.announce()
	return nil
}

// Hurry makes the writer never wait again: the process has exited and the rest of its output is small.
func (l *Log) Hurry() {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.hurry = true
	l.store.announceRoom()
}

// Finish says that nothing more will be written.
func (l *Log) Finish() {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	l.finish()
	l.announce()
}

func (l *Log) finish() {
	if !l.finished {
		l.finished = true
		close(l.ended)
		l.store.running--
		l.store.announceRoom()
	}
}

// End returns the cursor after the last byte.
func (l *Log) End() uint64 {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	return l.end
}

// Close frees the log; its readers get ErrClosed.
func (l *Log) Close() {
	s := l.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.finish()
	s.used -= l.size()
	for i, other := range s.logs {
		if other == l {
			s.logs = append(s.logs[:i], s.logs[i+1:]...)
			break
		}
	}
	if l.holdTimer != nil {
		l.holdTimer.Stop()
	}
	// Its memory goes with it; a read under way has its own reference.
	_ = l.file.Close()
	l.announce()
	s.announceRoom()
}

func (l *Log) size() uint64 { return l.end - l.start }

// announce wakes the readers.
func (l *Log) announce() {
	close(l.grown)
	l.grown = make(chan struct{})
}

// droppable is how many of the oldest bytes nobody has a right to.
func (l *Log) droppable() uint64 { return l.unclaimed(l.store.behind()) }

// unclaimed is the same where each reader keeps behindBytes that it was given already.
func (l *Log) unclaimed(behindBytes uint64) uint64 {
	keep := l.end
	behind := func(cursor uint64) {
		keep = min(keep, cursor-min(cursor, behindBytes))
	}
	for reader := range l.readers {
		behind(reader.cursor)
	}
	if time.Now().Before(l.heldUntil) {
		behind(l.heldAt)
	}
	if keep <= l.start {
		return 0
	}
	return keep - l.start
}

// segmentsBytes is how many bytes the n oldest segments hold.
func (l *Log) segmentsBytes(n int) uint64 {
	if n >= len(l.segments) {
		return l.size()
	}
	return l.segments[n].start - l.start
}

// drop forgets the n oldest bytes.
func (l *Log) drop(n uint64) {
	if n == 0 {
		return
	}
	l.start += n
	l.store.used -= n
	gone := 0
	for gone+1 < len(l.segments) && l.segments[gone+1].start <= l.start {
		gone++
	}
	if gone > 0 {
		l.segments = append(l.segments[:0], l.segments[gone:]...)
	}
	if until := l.start &^ (pageBytes - 1); until-l.punched >= punchBytes {
		// A hole that cannot be made costs memory, not correctness.
		_ = unix.Fallocate(int(l.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
			int64(l.punched), int64(until-l.punched))
		l.punched = until
	}
}

// hold keeps what stands from cursor on for the grace time.
func (l *Log) hold(cursor uint64) {
	if time.Now().Before(l.heldUntil) {
		cursor = min(cursor, l.heldAt)
	}
	l.heldAt = cursor
	l.heldUntil = time.Now().Add(l.store.limits.Grace)
	if l.holdTimer != nil {
		l.holdTimer.Stop()
	}
	l.holdTimer = time.AfterFunc(l.store.limits.Grace, func() {
		l.store.mu.Lock()
		defer l.store.mu.Unlock()
		l.store.announceRoom()
	})
}

// release ends a hold at or behind cursor: who is there now looks after itself.
func (l *Log) release() {
	l.heldUntil = time.Time{}
	if l.holdTimer != nil {
		l.holdTimer.Stop()
	}
}
