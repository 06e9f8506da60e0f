// This file owns the host's own addresses, which no guest may reach, whatever they are.
package netd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// ownFor is how long the list holds: addresses come and go with networks.
const ownFor = 2 * time.Second

// ownAddresses are those of the host's interfaces, and the broadcast addresses of their networks.
type ownAddresses struct {
	mutex sync.Mutex
	known map[netip.Addr]bool
	at    time.Time
}

// has tells whether an address is the host's own. One that cannot be told is.
func (o *ownAddresses) has(address netip.Addr) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.known == nil || time.Since(o.at) > ownFor {
		list, err := net.InterfaceAddrs()
		if err != nil && o.known == nil {
			return true
		}
		if err == nil {
			o.known, o.at = gather(list), time.Now()
		}
	}
	return o.known[address.Unmap()]
}

func gather(list []net.Addr) map[netip.Addr]bool {
	known := map[netip.Addr]bool{}
	for _, entry := range list {
		network, ok := entry.(*net.IPNet)
		if !ok {
			continue
		}
		address, ok := netip.AddrFromSlice(network.IP)
		if !ok {
			continue
		}
		address = address.Unmap()
		known[address] = true
		if ones, bits := network.Mask.Size(); address.Is4() && bits == 32 && ones < 31 {
			last := address.As4()
			for i := range last {
				last[i] |= ^network.Mask[i]
			}
			known[netip.AddrFrom4(last)] = true
		}
	}
	return known
}
