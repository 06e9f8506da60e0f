// Package output keeps what processes print: one log per process, bounded each and in all, kept in the memory of the
// kernel (memfds) rather than the Go heap. While someone reads a log its writer waits rather than lose a byte; else
// the oldest bytes make way.
//
// This file owns the store: the limits over all logs, and who gives way when they are reached.
package output

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a store. All sizes are bytes.
type Limits struct {
	// PerLog and Total are how much output is kept.
	PerLog, Total uint64
	// Behind is how much is kept that an attached reader was already given: it may have been lost on the way.
	Behind uint64
	// Grace is how long a log stays as if attached: from its start on, and after a reader was cut off.
	Grace time.Duration
}

// DefaultLimits are what guestd keeps on a machine with that much memory.
func DefaultLimits(memoryBytes uint64) Limits {
	total := uint64(64 << 20)
	if memoryBytes > 0 {
		total = min(total, memoryBytes/4)
	}
	return Limits{PerLog: 8 << 20, Total: total, Behind: 4 << 20, Grace: 60 * time.Second}
}

// Store holds the logs of all processes. One lock guards them all: what it covers is short.
type Store struct {
	limits Limits
	mu     sync.Mutex
	used   uint64
	// running counts the logs that are not finished.
	running int
	// logs stand in the order they were made.
	logs []*Log
	// room is closed, and replaced, whenever a waiting writer may have room.
	room chan struct{}
}

// NewStore returns an empty store.
func NewStore(limits Limits) *Store {
	return &Store{limits: limits, room: make(chan struct{})}
}

// NewLog returns an empty log. Close frees it.
func (s *Store) NewLog() (*Log, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("output: memfd_create: %w", err)
	}
	log := &Log{
		store:   s,
		file:    os.NewFile(uintptr(fd), "output"),
		readers: map[*Reader]struct{}{},
		grown:   make(chan struct{}),
		ended:   make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = append(s.logs, log)
	s.running++
	log.hold(0)
	return log, nil
}

// makeRoom drops what may be dropped until n more bytes fit into log. False when they do not. Called with the lock.
func (s *Store) makeRoom(log *Log, n uint64) bool {
	if over := int64(log.size()+n) - int64(s.limits.PerLog); over > 0 {
		log.drop(min(uint64(over), log.droppable()))
	}
	if len(log.segments) >= maxSegments {
		// Not counting what is kept behind readers: it is a precaution, and must not stop a writer whose readers have
		// read everything.
		log.drop(min(log.segmentsBytes(maxSegments/16), log.unclaimed(0)))
	}
	if log.size()+n > s.limits.PerLog || len(log.segments) >= maxSegments {
		return false
	}
	for s.used+n > s.limits.Total {
		victim := s.victim()
		if victim == nil {
			return false
		}
		victim.drop(min(s.used+n-s.limits.Total, victim.droppable()))
	}
	return true
}

// behind is how much is kept behind a reader: less where many share the room, so that readers who have read everything
// never hold up a writer.
func (s *Store) behind() uint64 {
	return min(s.limits.Behind, s.limits.Total/2/uint64(max(s.running, 1)))
}

// victim is whose oldest bytes go first: of a process that has ended, else of the log with most to give.
func (s *Store) victim() *Log {
	var best *Log
	for _, log := range s.logs {
		if log.droppable() == 0 {
			continue
		}
		if log.finished {
			return log
		}
		if best == nil || log.droppable() > best.droppable() {
			best = log
		}
	}
	return best
}

// announceRoom wakes every waiting writer. Called with the lock.
func (s *Store) announceRoom() {
	close(s.room)
	s.room = make(chan struct{})
}
