// Package outgoing hands what is made in the guest to the host, piece by piece, no faster than it is asked for. The host
// asks by number: a piece that was lost with a connection is given again, and nothing is made twice.
package outgoing

import (
	"context"
	"errors"
	"regexp"
	"sync"
	"time"
)

const (
	// mostActive is how many there may be at once.
	mostActive = 4
	// silence is how long nobody may ask for a piece.
	silence = 60 * time.Second
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Errors that callers tell apart with errors.Is.
var (
	// ErrInvalid: the call makes no sense.
	ErrInvalid = errors.New("invalid")
	// ErrUnknown: there is no such thing, or no more.
	ErrUnknown = errors.New("nothing of this id is being sent")
	// ErrBusy: too many at once.
	ErrBusy = errors.New("too much is being sent at once")
	// ErrDropped: nobody wants it any more.
	ErrDropped = errors.New("it was dropped")
)

// Make makes the pieces and gives each to emit, which waits for its turn and fails when nobody wants more.
type Make[Piece any] func(ctx context.Context, emit func(Piece) error) error

// Table holds what is being sent. Its methods may be called at the same time. The zero value is ready.
type Table[Piece any] struct {
	mu     sync.Mutex
	flows  map[string]*flow[Piece]
	closed bool
}

// flow is one of them.
type flow[Piece any] struct {
	cancel context.CancelCauseFunc
	ctx    context.Context
	pieces chan Piece
	// over is closed when all was made and err stands.
	over chan struct{}
	err  error
	// turn is held, as its one element, by the call that asks for a piece.
	turn chan struct{}
	// Guarded by turn: how many pieces were given, the last of them, and whether there are no more.
	given uint64
	last  Piece
	ended bool
	// Guarded by the table's mu.
	using int
	timer *time.Timer
}

// Begin begins to make what make makes. A second call with the same id begins nothing. Errors: ErrInvalid, ErrBusy.
func (t *Table[Piece]) Begin(id string, work Make[Piece]) error {
	if !idPattern.MatchString(id) {
		return ErrInvalid
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[id] != nil {
		return nil
	}
	if t.closed || len(t.flows) >= mostActive {
		return ErrBusy
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &flow[Piece]{
		ctx: ctx, cancel: cancel, pieces: make(chan Piece), over: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	if t.flows == nil {
		t.flows = map[string]*flow[Piece]{}
	}
	t.flows[id] = f
	f.timer = time.AfterFunc(silence, func() { t.expire(id, f) })
	go func() {
		err := work(ctx, f.emit)
		// What was dropped failed for that, whatever it says.
		if dropped := context.Cause(ctx); dropped != nil {
			err = dropped
		}
		f.err = err
		close(f.over)
	}()
	return nil
}

func (f *flow[Piece]) emit(piece Piece) error {
	select {
	case f.pieces <- piece:
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// Read returns the piece of a number, from 0 on: the last one again, or the next, which it waits for; end says that there is
// none any more. Errors: ErrUnknown, ErrInvalid, that of making it, that of ctx.
func (t *Table[Piece]) Read(ctx context.Context, id string, number uint64) (piece Piece, end bool, err error) {
	f, release, err := t.use(id)
	if err != nil {
		return piece, false, err
	}
	defer release()
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return piece, false, ctx.Err()
	}
	switch {
	case f.given > 0 && number == f.given-1:
		return f.last, false, nil
	case number != f.given:
		return piece, false, ErrInvalid
	}
	var none Piece
	f.last = none
	select {
	case f.last = <-f.pieces:
		f.given++
		return f.last, false, nil
	case <-f.over:
		return piece, f.err == nil, f.err
	case <-ctx.Done():
		// The piece before was acknowledged, and is not asked for again.
		return piece, false, ctx.Err()
	}
}

// use keeps a flow from expiring until release.
func (t *Table[Piece]) use(id string) (f *flow[Piece], release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f = t.flows[id]
	if f == nil {
		return nil, nil, ErrUnknown
	}
	f.using++
	f.timer.Stop()
	return f, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.using--; f.using == 0 && t.flows[id] == f {
			f.timer.Reset(silence)
		}
	}, nil
}

func (t *Table[Piece]) expire(id string, f *flow[Piece]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[id] == f && f.using == 0 {
		t.drop(id, f)
	}
}

// Drop ends one. Idempotent.
func (t *Table[Piece]) Drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.flows[id]; f != nil {
		t.drop(id, f)
	}
}

// drop is called with mu.
func (t *Table[Piece]) drop(id string, f *flow[Piece]) {
	f.timer.Stop()
	f.cancel(ErrDropped)
	delete(t.flows, id)
}

// Close ends all, begins no more, and returns when nothing is made any more, or ctx is done.
func (t *Table[Piece]) Close(ctx context.Context) {
	t.mu.Lock()
	t.closed = true
	var ending []*flow[Piece]
	for id, f := range t.flows {
		ending = append(ending, f)
		t.drop(id, f)
	}
	t.mu.Unlock()
	for _, f := range ending {
		select {
		case <-f.over:
		case <-ctx.Done():
		}
	}
}
