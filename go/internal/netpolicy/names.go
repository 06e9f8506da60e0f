// This file owns what names were resolved to: which addresses were told to the guest for which name, and until when.
package netpolicy

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxAddresses is how many addresses are known at once, maxNamesEach how many names of one. The oldest goes.
	maxAddresses = 8192
	maxNamesEach = 64
)

// Names remembers answers. Its methods may be called at the same time.
type Names struct {
	mutex sync.Mutex
	known map[netip.Addr]map[string]time.Time
	now   func() time.Time
}

// NewNames returns one that knows nothing.
func NewNames() *Names {
	return &Names{known: map[netip.Addr]map[string]time.Time{}, now: time.Now}
}

// Learn notes that address was told for name and may be used for so long.
func (n *Names) Learn(name string, address netip.Addr, life time.Duration) {
	address = address.Unmap()
	n.mutex.Lock()
	defer n.mutex.Unlock()
	until := n.now().Add(life)
	names := n.known[address]
	if names == nil {
		if len(n.known) >= maxAddresses {
			n.makeRoom()
		}
		names = map[string]time.Time{}
		n.known[address] = names
	}
	if _, there := names[name]; !there && len(names) >= maxNamesEach {
		dropFirst(names)
	}
	if names[name].Before(until) {
		names[name] = until
	}
}

// Of returns the names that an address was told for and that hold still.
func (n *Names) Of(address netip.Addr) []string {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	now := n.now()
	var live []string
	for name, until := range n.known[address.Unmap()] {
		if now.Before(until) {
			live = append(live, name)
		}
	}
	return live
}

// makeRoom forgets what holds no more, and if that is nothing, the address that would be forgotten first.
func (n *Names) makeRoom() {
	now := n.now()
	var oldest netip.Addr
	var oldestUntil time.Time
	for address, names := range n.known {
		var last time.Time
		for _, until := range names {
			if until.After(last) {
				last = until
			}
		}
		if !now.Before(last) {
			delete(n.known, address)
			continue
		}
		if oldestUntil.IsZero() || last.Before(oldestUntil) {
			oldest, oldestUntil = address, last
		}
	}
	if len(n.known) >= maxAddresses {
		delete(n.known, oldest)
	}
}

func dropFirst(names map[string]time.Time) {
	first := ""
	for name, until := range names {
		if first == "" || until.Before(names[first]) {
			first = name
		}
	}
	delete(names, first)
}
