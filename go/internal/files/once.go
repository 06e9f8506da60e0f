// This file owns that a change which is asked for twice is made once: an answer may be lost on its way, and the host then asks
// again.
package files

import (
	"context"
	"errors"
	"regexp"
	"sync"
)

// mostOutcomes is of how many changes the outcome is remembered.
const mostOutcomes = 64

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

type outcome struct {
	over  chan struct{}
	value any
	err   error
}

// once remembers the outcomes of the last changes.
type once struct {
	mu       sync.Mutex
	outcomes map[string]*outcome
	ended    []string
}

// change makes a change, or answers what it came to when its id is known. One that was given up before it began is not
// remembered.
func change[T any](ctx context.Context, o *once, id string, make func() (T, error)) (T, error) {
	var none T
	if !idPattern.MatchString(id) {
		return none, refuse(Invalid, "", "request_id does not match %s", idPattern)
	}
	o.mu.Lock()
	for known := o.outcomes[id]; known != nil; known = o.outcomes[id] {
		o.mu.Unlock()
		select {
		case <-known.over:
		case <-ctx.Done():
			return none, ctx.Err()
		}
		if value, ok := known.value.(T); ok && !givenUp(known.err) {
			return value, known.err
		}
		o.mu.Lock()
	}
	own := &outcome{over: newSignal()}
	o.outcomes[id] = own
	o.mu.Unlock()
	value, err := make()
	o.mu.Lock()
	defer o.mu.Unlock()
	own.value, own.err = value, err
	if givenUp(err) {
		delete(o.outcomes, id)
	} else if o.ended = append(o.ended, id); len(o.ended) > mostOutcomes {
		delete(o.outcomes, o.ended[0])
		o.ended = o.ended[1:]
	}
	close(own.over)
	return value, err
}

func newSignal() chan struct{} { return make(chan struct{}) }

func givenUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
