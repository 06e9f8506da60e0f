// This file owns how long the launcher and its ephemeral microVMs live: as long as a daemon watches, and a grace time.

package main

import (
	"context"
	"log"
	"sync"
	"time"

	"pyro.dev/pyro/go/internal/vmm"
)

type lease struct {
	registry *vmm.Registry
	grace    time.Duration
	changed  chan struct{}
	// over is closed when the launcher ends.
	over chan struct{}

	mutex    sync.Mutex
	watchers int
	// since is when the grace time began, if nobody watches.
	since time.Time
	stop  bool
}

func newLease(registry *vmm.Registry, grace time.Duration, changed chan struct{}) *lease {
	return &lease{registry: registry, grace: grace, changed: changed, over: make(chan struct{}), since: time.Now()}
}

// claim is held by a watching daemon until it calls what it got. A daemon that comes after a Stop has use for the
// launcher: the Stop is forgotten.
func (l *lease) claim() func() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.watchers++
	l.stop = false
	return func() {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		l.watchers--
		l.since = time.Now()
		wake(l.changed)
	}
}

// touch begins the grace time anew: somebody uses the launcher, if without watching yet.
func (l *lease) touch() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.since = time.Now()
	wake(l.changed)
}

// end lets the launcher end as soon as it holds no microVM.
func (l *lease) end() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.stop = true
	wake(l.changed)
}

// left is the rest of the grace time: 0 when it has run out, and claimed says that it does not run at all.
func (l *lease) left() (rest time.Duration, claimed, stop bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return max(0, l.grace-time.Since(l.since)), l.watchers > 0, l.stop
}

// run returns when the launcher is to end, or with the context. After that the registry starts no more microVMs.
func (l *lease) run(ctx context.Context) {
	for {
		rest, claimed, stop := l.left()
		expired := !claimed && rest == 0
		if expired {
			if l.registry.Running() > 0 {
				log.Print("no daemon within the grace time: ephemeral microVMs end")
			}
			l.registry.KillEphemeral(ctx)
		}
		if (stop || expired) && l.registry.Close() {
			return
		}
		var timer <-chan time.Time
		if !claimed && rest > 0 {
			timer = time.After(rest)
		}
		select {
		case <-l.changed:
		case <-timer:
		case <-ctx.Done():
			return
		}
	}
}
