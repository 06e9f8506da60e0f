// This file owns published ports: listeners of the host's on its loopback addresses that open a stream to the guest.
package netd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	maxPublished = 64
	// assignTries is how often a port is looked for that is free on both addresses.
	assignTries = 32
	reachTime   = 10 * time.Second
)

// Port is one of the guest's that the host has.
type Port struct {
	// HostPort is 0 for one that is to be assigned.
	HostPort  uint16 `json:"host_port"`
	GuestPort uint16 `json:"guest_port"`
}

type ports struct {
	mutex sync.Mutex
	open  map[Port]*published
	// total counts the connections that were made to them.
	total atomic.Uint64
}

// portTaken says that somebody else listens on a port of the host.
type portTaken struct{ port uint16 }

func (p *portTaken) Error() string { return fmt.Sprintf("the port %d of the host is taken", p.port) }

type published struct {
	listeners []net.Listener
	ctx       context.Context
	cut       context.CancelFunc
}

// publish makes the open ports those that are wanted. On an error nothing new is open.
func (n *Network) publish(wanted []Port) error {
	if len(wanted) > maxPublished {
		return fmt.Errorf("%d ports to publish, at most %d", len(wanted), maxPublished)
	}
	n.ports.mutex.Lock()
	defer n.ports.mutex.Unlock()
	if n.ports.open == nil {
		n.ports.open = map[Port]*published{}
	}
	keep := map[Port]bool{}
	for _, port := range wanted {
		keep[port] = true
	}
	for port, one := range n.ports.open {
		if !keep[port] {
			one.close()
			delete(n.ports.open, port)
		}
	}
	made := map[Port]*published{}
	for _, port := range wanted {
		if n.ports.open[port] != nil || port.HostPort != 0 && made[port] != nil {
			continue
		}
		actual, one, err := listen(port)
		if err != nil {
			for _, other := range made {
				other.close()
			}
			return err
		}
		made[actual] = one
	}
	for port, one := range made {
		n.ports.open[port] = one
		for _, listener := range one.listeners {
			go n.serve(one, listener, port.GuestPort)
		}
	}
	return nil
}

func (p *ports) list() []Port {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	list := []Port{}
	for port := range p.open {
		list = append(list, port)
	}
	sort.Slice(list, func(a, b int) bool { return list[a].HostPort < list[b].HostPort })
	return list
}

func (p *ports) close() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for port, one := range p.open {
		one.close()
		delete(p.open, port)
	}
}

func (one *published) close() {
	one.cut()
	for _, listener := range one.listeners {
		listener.Close()
	}
}

// listen opens a port on both loopback addresses; on a host without IPv6 on the one there is.
func listen(port Port) (Port, *published, error) {
	var failure error
	for range assignTries {
		first, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port.HostPort))))
		if err != nil {
			if taken(err) {
				return port, nil, &portTaken{port.HostPort}
			}
			return port, nil, fmt.Errorf("port %d: %s", port.HostPort, shortly(err))
		}
		actual := Port{HostPort: uint16(first.Addr().(*net.TCPAddr).Port), GuestPort: port.GuestPort}
		one := &published{listeners: []net.Listener{first}}
		one.ctx, one.cut = context.WithCancel(context.Background())
		second, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(int(actual.HostPort))))
		if err == nil {
			one.listeners = append(one.listeners, second)
			return actual, one, nil
		}
		if !taken(err) {
			return actual, one, nil
		}
		failure = &portTaken{actual.HostPort}
		one.close()
		if port.HostPort != 0 {
			break
		}
	}
	return port, nil, failure
}

func (n *Network) serve(one *published, listener net.Listener, guestPort uint16) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if one.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		n.ports.total.Add(1)
		go n.reach(one.ctx, conn.(*net.TCPConn), guestPort)
	}
}

// reach carries one connection of the host's into the guest.
func (n *Network) reach(parent context.Context, host *net.TCPConn, guestPort uint16) {
	defer host.Close()
	ctx, cut := context.WithCancel(parent)
	defer cut()
	one := &flow{protocol: protocolPublished, to: netip.AddrPortFrom(Guest4, guestPort), cut: cut}
	ok, crowded := n.flows.take(one)
	if !ok {
		return
	}
	defer n.flows.release(one)
	dialing, done := context.WithTimeout(ctx, reachTime)
	defer done()
	guest, endpoint, err := n.dialGuest(dialing, guestPort)
	if err != nil {
		_ = host.SetLinger(0)
		return
	}
	tune(endpoint, crowded)
	p := n.pair(ctx, one, guest, guest, endpoint, host)
	defer context.AfterFunc(ctx, p.abort)()
	p.carry(false)
}

// dialGuest is gonet's dialling, which keeps the endpoint to itself.
func (n *Network) dialGuest(ctx context.Context, port uint16) (*gonet.TCPConn, tcpip.Endpoint, error) {
	var queue waiter.Queue
	endpoint, failure := n.stack.NewEndpoint(tcpProtocol, ipv4.ProtocolNumber, &queue)
	if failure != nil {
		return nil, nil, errors.New(failure.String())
	}
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	fail := func(err error) (*gonet.TCPConn, tcpip.Endpoint, error) {
		endpoint.Close()
		return nil, nil, err
	}
	if failure := endpoint.Bind(tcpip.FullAddress{NIC: nic, Addr: tcpipAddress(Gateway4)}); failure != nil {
		return fail(errors.New(failure.String()))
	}
	failure = endpoint.Connect(tcpip.FullAddress{NIC: nic, Addr: tcpipAddress(Guest4), Port: port})
	if _, started := failure.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-writable:
		}
		failure = endpoint.LastError()
	}
	if failure != nil {
		return fail(errors.New(failure.String()))
	}
	return gonet.NewTCPConn(&queue, endpoint), endpoint, nil
}
