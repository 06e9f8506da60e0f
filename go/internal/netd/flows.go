// This file owns the flows: which connections there are, how many may be, and which must go when the policy changes.
package netd

import (
	"net/netip"
	"sync"

	"pyro.dev/pyro/go/internal/netpolicy"
)

const (
	maxTCP = 2048
	maxUDP = 1024
	// crowd is with how many connections each gets smaller buffers.
	crowd = 256
)

// flow is a connection of the guest's, or one that runs between the host and the guest.
type flow struct {
	protocol string
	// datagrams: it counts with those, not with connections.
	datagrams bool
	to        netip.AddrPort
	// names are those that the address was told for when the flow began.
	names []string
	// claimed is the name that it gave for itself, empty for none. Guarded by the table's mutex.
	claimed string
	// cut ends it at once. It is called without locks, and may be called again.
	cut func()
}

// flows are all there are.
type flows struct {
	mutex sync.Mutex
	all   map[*flow]struct{}
	tcp   int
	udp   int
}

// take makes room for a flow; false when there are too many. crowded says that there are many.
func (f *flows) take(one *flow) (ok, crowded bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	count, most := &f.tcp, maxTCP
	if one.datagrams {
		count, most = &f.udp, maxUDP
	}
	if *count >= most {
		return false, true
	}
	*count++
	if f.all == nil {
		f.all = map[*flow]struct{}{}
	}
	f.all[one] = struct{}{}
	return true, f.tcp > crowd
}

func (f *flows) release(one *flow) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if _, there := f.all[one]; !there {
		return
	}
	delete(f.all, one)
	if one.datagrams {
		f.udp--
	} else {
		f.tcp--
	}
}

// claim notes the name that a flow gave for itself.
func (f *flows) claim(one *flow, name string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	one.claimed = name
}

// recheck cuts the flows that rules do not allow, and calls denied for each.
func (f *flows) recheck(rules *netpolicy.Rules, own func(netip.Addr) bool, denied func(*flow, netpolicy.Verdict)) {
	type cutting struct {
		one     *flow
		verdict netpolicy.Verdict
	}
	var cuts []cutting
	f.mutex.Lock()
	for one := range f.all {
		if one.protocol != protocolTCP && one.protocol != protocolUDP {
			continue
		}
		verdict := decide(rules, one.protocol, one.to, one.names, own)
		if verdict.Allowed && one.claimed != "" {
			verdict = rules.Claim(one.claimed, one.to.Addr(), one.names)
		}
		if verdict.Allowed && one.claimed == "" && one.protocol == protocolTCP && mustClaim(one.to.Port()) && rules.Narrowed &&
			!rules.ByAddress(one.to.Addr()) {
			// It began while nobody asked it for a name.
			verdict = netpolicy.Verdict{Name: verdict.Name, Reason: "the connection was made before there was an allow-list"}
		}
		if !verdict.Allowed {
			cuts = append(cuts, cutting{one, verdict})
		}
	}
	f.mutex.Unlock()
	for _, c := range cuts {
		denied(c.one, c.verdict)
		if c.one.cut != nil {
			c.one.cut()
		}
	}
}

// published is how many connections from the host to the guest there are.
func (f *flows) published() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	count := 0
	for one := range f.all {
		if one.protocol == protocolPublished {
			count++
		}
	}
	return count
}

const (
	protocolTCP       = "tcp"
	protocolUDP       = "udp"
	protocolDNS       = "dns"
	protocolPublished = "published"
	portDNS           = 53
	portHTTP          = 80
	portTLS           = 443
)

// mustClaim tells the ports on which a connection has to say which name it is for, under an allow-list.
func mustClaim(port uint16) bool { return port == portHTTP || port == portTLS }

// decide asks the rules about a connection.
func decide(
	rules *netpolicy.Rules, protocol string, to netip.AddrPort, names []string, own func(netip.Addr) bool,
) netpolicy.Verdict {
	verdict := rules.Connect(to.Addr(), names, own)
	if verdict.Allowed && rules.Narrowed && protocol == protocolUDP && to.Port() == portTLS {
		return netpolicy.Verdict{Name: verdict.Name, Reason: "QUIC is not let through an allow-list: its names cannot be read"}
	}
	return verdict
}
