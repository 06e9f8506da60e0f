// This file owns a reader of a log: where it stands, and what is kept for it.
package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"
)

// ErrBeyondEnd is returned for a cursor after the last byte.
var ErrBeyondEnd = errors.New("cursor: beyond the end of the output")

// Reader is attached to a log until Detach. It is used by one goroutine.
type Reader struct {
	log *Log
	// cursor is where what was not yet asked for begins; guarded by store.mu.
	cursor uint64
}

// Chunk is a piece of output of one stream.
type Chunk struct {
	// Cursor of the first byte; larger than expected where the oldest output was dropped.
	Cursor uint64
	Stream Stream
	Data   []byte
}

// Attach returns a reader that stands at cursor. While it is attached the writer waits for it.
func (l *Log) Attach(cursor uint64) (*Reader, error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if cursor > l.end {
		return nil, fmt.Errorf("%w: %d of %d", ErrBeyondEnd, cursor, l.end)
	}
	reader := &Reader{log: l, cursor: cursor}
	l.readers[reader] = struct{}{}
	// The reader may have been given more than its forerunner knew of.
	if cursor <= l.heldAt+l.store.limits.Behind {
		l.release()
	}
	return reader, nil
}

// Next fills buffer with the next output of one stream, waiting for it. It counts as read
// only after Took. io.EOF: the log is finished and all of it was read.
func (r *Reader) Next(ctx context.Context, buffer []byte) (Chunk, error) {
	l := r.log
	l.store.mu.Lock()
	for {
		if l.closed {
			l.store.mu.Unlock()
			return Chunk{}, ErrClosed
		}
		r.cursor = max(r.cursor, l.start)
		if r.cursor < l.end {
			break
		}
		if l.finished {
			l.store.mu.Unlock()
			return Chunk{}, io.EOF
		}
		grown := l.grown
		l.store.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return Chunk{}, ctx.Err()
		}
		l.store.mu.Lock()
	}
	at := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].start > r.cursor }) - 1
	until := l.end
	if at+1 < len(l.segments) {
		until = l.segments[at+1].start
	}
	chunk := Chunk{Cursor: r.cursor, Stream: l.segments[at].stream}
	chunk.Data = buffer[:min(uint64(len(buffer)), until-r.cursor)]
	l.store.mu.Unlock()

	// Outside the lock: an attached reader's bytes are not dropped.
	if _, err := l.file.ReadAt(chunk.Data, int64(chunk.Cursor)); err != nil {
		return Chunk{}, fmt.Errorf("output: reading: %w", err)
	}
	return chunk, nil
}

// Took says that the caller is done with chunk and stands behind it.
func (r *Reader) Took(chunk Chunk) {
	s := r.log.store
	s.mu.Lock()
	defer s.mu.Unlock()
	r.cursor = chunk.Cursor + uint64(len(chunk.Data))
	s.announceRoom()
}

// Gather waits that long for output to become more, but not when the log is finished.
func (r *Reader) Gather(within time.Duration) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.log.ended:
	}
}

// Detach ends the reader. When it was cut off before the end, its place is kept for the grace time.
func (r *Reader) Detach(cutOff bool) {
	s := r.log.store
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(r.log.readers, r)
	if r.log.closed {
		return
	}
	// Where another reader is attached, it looks after itself: the one that was cut off may be its forerunner.
	if cutOff && len(r.log.readers) == 0 {
		r.log.hold(r.cursor)
	}
	s.announceRoom()
}
