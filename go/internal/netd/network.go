// This file owns the stack: how it is set up, and the network as a whole.
package netd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"pyro.dev/pyro/go/internal/broker"
	"pyro.dev/pyro/go/internal/netpolicy"
)

// The addresses of every microVM's network: each has a network of its own, so all have the same.
var (
	Gateway4 = netip.MustParseAddr("10.213.0.1")
	Guest4   = netip.MustParseAddr("10.213.0.2")
	Gateway6 = netip.MustParseAddr("fd70:7972:6f00::1")
	Guest6   = netip.MustParseAddr("fd70:7972:6f00::2")
)

const (
	nic = 1
	// synsAtOnce is how many connections may be in the making; more wait, as the guest asks again.
	synsAtOnce = 1024
	// Buffers of one connection, bytes. With very many connections each has the least.
	buffersLeast = 128 << 10
	buffersMost  = 1 << 20
	timeWait     = 5 * time.Second
	flushEvery   = time.Second
)

// Config is what the engine asks of a network; it may change at any time.
type Config struct {
	netpolicy.Policy
	// Resolvers are the name servers that are asked, address or address:port.
	Resolvers []string `json:"resolvers"`
	// Publish are the ports of the guest that the host is to have.
	Publish []Port `json:"publish,omitempty"`
	// BytesPerSecond is what may pass each way; 0 for as much as can.
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
	// Broker are the secrets that the guest uses and never sees.
	Broker broker.Config `json:"broker"`
}

// Report is what there is after a Config was taken, or when it is asked for.
type Report struct {
	Error string `json:"error,omitempty"`
	// PortTaken is a port of the host that somebody else has, where that is the error.
	PortTaken uint16 `json:"port_taken,omitempty"`
	// Published are the ports that are open.
	Published []Port `json:"published"`
	// PublishedConnections run at the moment, PublishedTotal have been made since netd began.
	PublishedConnections int    `json:"published_connections"`
	PublishedTotal       uint64 `json:"published_total"`
}

// Network is one guest's.
type Network struct {
	stack   *stack.Stack
	link    *link
	journal *Journal
	names   *netpolicy.Names
	own     ownAddresses
	flows   flows
	pace    pace
	dns     *resolver
	rules   atomic.Pointer[netpolicy.Rules]
	ports   ports
	broker  *broker.Broker
	// dial makes the host's connections.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New makes a network on a stream of packets. It lets nothing through before Configure.
func New(stream io.ReadWriter, journal *Journal) (*Network, error) {
	n := &Network{
		link:    newLink(stream, queueLength, tcpipAddress(Gateway4), tcpipAddress(Gateway6)),
		journal: journal, names: netpolicy.NewNames(), pace: newPace(), dial: (&net.Dialer{Timeout: dialTime}).DialContext,
		stack: stack.New(stack.Options{
			NetworkProtocols: []stack.NetworkProtocolFactory{
				// Loopback addresses are refused by the policy, which says so; the stack would only drop them.
				ipv4.NewProtocolWithOptions(ipv4.Options{AllowExternalLoopbackTraffic: true}),
				ipv6.NewProtocolWithOptions(ipv6.Options{AllowExternalLoopbackTraffic: true}),
			},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		}),
	}
	n.dns = newResolver(n)
	n.broker = broker.New(n.noteBroker)
	if err := n.setUp(); err != nil {
		return nil, fmt.Errorf("network stack: %w", err)
	}
	return n, nil
}

func (n *Network) setUp() error {
	sack := tcpip.TCPSACKEnabled(true)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: buffersLeast, Max: buffersMost}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: buffersLeast, Max: buffersMost}
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &wait, &receive, &send, &moderate} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return errors.New(err.String())
		}
	}
	if err := n.stack.CreateNIC(nic, n.link); err != nil {
		return errors.New(err.String())
	}
	// Every address is answered for, and from.
	if err := n.stack.SetPromiscuousMode(nic, true); err != nil {
		return errors.New(err.String())
	}
	if err := n.stack.SetSpoofing(nic, true); err != nil {
		return errors.New(err.String())
	}
	for address, protocol := range map[netip.Addr]tcpip.NetworkProtocolNumber{
		Gateway4: ipv4.ProtocolNumber, Gateway6: ipv6.ProtocolNumber,
	} {
		own := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: tcpipAddress(address).WithPrefix()}
		if err := n.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			return errors.New(err.String())
		}
	}
	n.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(n.stack, buffersLeast, synsAtOnce, n.acceptTCP).HandlePacket)
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(n.stack, n.acceptUDP).HandlePacket)
	return nil
}

// Configure takes a policy; what it does not allow is cut. One that is wrong changes nothing.
func (n *Network) Configure(config Config) Report {
	rules, err := config.Compile()
	if err == nil && (config.BytesPerSecond < 0 || config.BytesPerSecond > mostRate) {
		err = fmt.Errorf("a bandwidth of %d bytes a second", config.BytesPerSecond)
	}
	if err == nil {
		err = n.dns.use(config.Resolvers)
	}
	if err == nil {
		err = n.broker.Configure(config.Broker)
	}
	if err != nil {
		return Report{Error: err.Error(), Published: n.ports.list()}
	}
	n.pace.set(config.BytesPerSecond)
	n.rules.Store(rules)
	n.flows.recheck(rules, n.own.has, func(one *flow, verdict netpolicy.Verdict) {
		verdict.Reason = "cut: " + verdict.Reason
		n.note(one.protocol, one.to, verdict)
	})
	report := n.Report()
	if err := n.publish(config.Publish); err != nil {
		report.Error = err.Error()
		var taken *portTaken
		if errors.As(err, &taken) {
			report.PortTaken = taken.port
		}
	}
	report.Published = n.ports.list()
	return report
}

// UseResolvers has other name servers asked from now on. Wrong ones change nothing.
func (n *Network) UseResolvers(servers []string) Report {
	report := n.Report()
	if err := n.dns.use(servers); err != nil {
		report.Error = err.Error()
	}
	return report
}

// Report tells what there is.
func (n *Network) Report() Report {
	return Report{Published: n.ports.list(), PublishedConnections: n.flows.published(), PublishedTotal: n.ports.total.Load()}
}

// Run carries packets until the stream ends or ctx does, and ends every connection. It returns why.
func (n *Network) Run(ctx context.Context) error {
	ended := make(chan error, 2)
	go func() { ended <- n.link.receive() }()
	go func() { ended <- n.link.send() }()
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	defer func() {
		n.link.Close()
		n.ports.close()
		n.broker.Close()
		n.journal.Flush()
	}()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = io.EOF
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			n.journal.Flush()
		}
	}
}

// note writes a decision about a connection.
func (n *Network) note(protocol string, to netip.AddrPort, verdict netpolicy.Verdict) {
	word := "denied"
	if verdict.Allowed {
		word = "allowed"
	}
	d := Decision{Protocol: protocol, Name: verdict.Name, Verdict: word, Reason: verdict.Reason, Port: to.Port()}
	if to.IsValid() {
		d.Address = to.Addr().String()
	}
	n.journal.Note(d)
}

// tcpipAddress is an address as the stack has it.
func tcpipAddress(address netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(address.AsSlice()) }

// destination is where a guest's packet goes to, an IPv4 address in an IPv6 one left as it is.
func destination(id stack.TransportEndpointID) netip.AddrPort {
	address, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return netip.AddrPortFrom(address, id.LocalPort)
}

func isGateway(address netip.Addr) bool { return address == Gateway4 || address == Gateway6 }
