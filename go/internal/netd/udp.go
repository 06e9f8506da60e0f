// This file owns the guest's UDP: flows of datagrams, each with a socket of the host's for as long as it is used.
package netd

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"pyro.dev/pyro/go/internal/netpolicy"
)

const (
	// udpIdle is how long a flow may say nothing.
	udpIdle     = 90 * time.Second
	maxDatagram = 65535
)

// acceptUDP is called for the first datagram of each flow. False has the guest told that nobody is there.
func (n *Network) acceptUDP(request *udp.ForwarderRequest) bool {
	to := destination(request.ID())
	if n.rules.Load() == nil {
		return false
	}
	if isGateway(to.Addr()) && to.Port() == portDNS {
		return n.acceptUDPQueries(request)
	}
	ctx, cut := context.WithCancel(context.Background())
	one := &flow{protocol: protocolUDP, datagrams: true, to: to, names: n.names.Of(to.Addr()), cut: cut}
	if ok, _ := n.flows.take(one); !ok {
		cut()
		n.note(protocolUDP, to, netpolicy.Verdict{Reason: fmt.Sprintf("there are %d flows of datagrams already", maxUDP)})
		return false
	}
	end := func() { n.flows.release(one); cut() }
	verdict := decide(n.rules.Load(), protocolUDP, to, one.names, n.own.has)
	if !verdict.Allowed {
		n.note(protocolUDP, to, verdict)
		end()
		return false
	}
	host, err := n.dial(ctx, "udp", to.String())
	if err != nil {
		verdict.Reason += "; no connection: " + shortly(err)
		n.note(protocolUDP, to, verdict)
		end()
		return false
	}
	n.note(protocolUDP, to, verdict)
	var queue waiter.Queue
	endpoint, failure := request.CreateEndpoint(&queue)
	if failure != nil {
		host.Close()
		end()
		return false
	}
	guest := gonet.NewUDPConn(&queue, endpoint)
	go func() {
		defer end()
		n.exchange(ctx, guest, host)
	}()
	return true
}

// exchange carries datagrams both ways until nobody says anything, one end fails or ctx ends.
func (n *Network) exchange(ctx context.Context, guest, host net.Conn) {
	ctx, done := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { guest.Close(); host.Close() })
	defer stop()
	go func() {
		defer done()
		datagrams(host, paced{guest, ctx, n.pace.up}, host)
	}()
	datagrams(guest, paced{host, ctx, n.pace.down}, host)
	done()
	guest.Close()
	host.Close()
}

// datagrams carries one way. Whatever passes, either way, keeps the flow; the host's end has the deadline.
func datagrams(to io.Writer, from io.Reader, host net.Conn) {
	buffer := make([]byte, maxDatagram)
	for {
		_ = host.SetReadDeadline(time.Now().Add(udpIdle))
		count, err := from.Read(buffer)
		if err != nil {
			return
		}
		// One that cannot be sent is lost, as datagrams are.
		_, _ = to.Write(buffer[:count])
	}
}
