// This file owns the guest's TCP connections: decided, made on the host, carried.
package netd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"pyro.dev/pyro/go/internal/netpolicy"
	"pyro.dev/pyro/go/internal/sniff"
)

const (
	dialTime = 15 * time.Second
	// explainTime is how long a denied connection may take to hear why.
	explainTime = 10 * time.Second
	// halfOpenTime is how long one direction may say nothing after the other has ended.
	halfOpenTime = 5 * time.Minute
	// Probing of connections that say nothing.
	keepIdle     = 2 * time.Minute
	keepInterval = 30 * time.Second
	keepCount    = 4
	copyBytes    = 32 << 10
)

// acceptTCP is called, in a goroutine of its own, for each connection that the guest begins.
func (n *Network) acceptTCP(request *tcp.ForwarderRequest) {
	to := destination(request.ID())
	rules := n.rules.Load()
	if rules == nil {
		request.Complete(true)
		return
	}
	if isGateway(to.Addr()) && to.Port() == portDNS {
		n.acceptTCPQueries(request)
		return
	}
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	one := &flow{protocol: protocolTCP, to: to, names: n.names.Of(to.Addr()), cut: cut}
	ok, crowded := n.flows.take(one)
	if !ok {
		n.note(protocolTCP, to, netpolicy.Verdict{Reason: fmt.Sprintf("there are %d connections already", maxTCP)})
		request.Complete(true)
		return
	}
	defer n.flows.release(one)
	rules = n.rules.Load()
	verdict := decide(rules, protocolTCP, to, one.names, n.own.has)
	if !verdict.Allowed {
		n.note(protocolTCP, to, verdict)
		n.explain(ctx, request, verdict.Reason)
		return
	}
	checked := rules.Narrowed && !rules.ByAddress(to.Addr())
	var guest *gonet.TCPConn
	var endpoint tcpip.Endpoint
	var said io.Reader
	if n.broker.Watches(to.Port(), one.names) {
		if guest, endpoint, said, ok = n.acceptWatched(ctx, request, one, crowded); !ok {
			return
		}
		defer guest.Close()
	}
	dialed, err := n.dial(ctx, "tcp", to.String())
	if err != nil {
		verdict.Reason += "; no connection: " + shortly(err)
		n.note(protocolTCP, to, verdict)
		if guest != nil {
			endpoint.Abort()
			return
		}
		request.Complete(true)
		return
	}
	host := dialed.(*net.TCPConn)
	defer host.Close()
	if !checked {
		n.note(protocolTCP, to, verdict)
	}
	if guest == nil {
		if guest, endpoint, err = open(request, crowded); err != nil {
			return
		}
		said = guest
	}
	p := n.pair(ctx, one, guest, said, endpoint, host)
	defer context.AfterFunc(ctx, p.abort)()
	p.carry(checked)
}

// open takes the guest's connection.
func open(request *tcp.ForwarderRequest, crowded bool) (*gonet.TCPConn, tcpip.Endpoint, error) {
	var queue waiter.Queue
	endpoint, failure := request.CreateEndpoint(&queue)
	request.Complete(failure != nil)
	if failure != nil {
		return nil, nil, errors.New(failure.String())
	}
	tune(endpoint, crowded)
	return gonet.NewTCPConn(&queue, endpoint), endpoint, nil
}

// tune sets what keeps a connection small and finds out when its guest has gone.
func tune(endpoint tcpip.Endpoint, crowded bool) {
	options := endpoint.SocketOptions()
	options.SetKeepAlive(true)
	options.SetDelayOption(false)
	idle, interval := tcpip.KeepaliveIdleOption(keepIdle), tcpip.KeepaliveIntervalOption(keepInterval)
	_ = endpoint.SetSockOpt(&idle)
	_ = endpoint.SetSockOpt(&interval)
	_ = endpoint.SetSockOptInt(tcpip.KeepaliveCountOption, keepCount)
	if !crowded {
		options.SetSendBufferSize(buffersMost, true)
	}
}

// explain ends a denied connection: with words where a web client would read them, else with a reset.
func (n *Network) explain(ctx context.Context, request *tcp.ForwarderRequest, why string) {
	port := request.ID().LocalPort
	if port != portHTTP && port != portTLS {
		request.Complete(true)
		return
	}
	guest, endpoint, err := open(request, true)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, endpoint.Abort)()
	defer guest.Close()
	_ = guest.SetDeadline(time.Now().Add(explainTime))
	answer := sniff.Refusal(why)
	if port == portTLS {
		_, _, _ = sniff.ServerName(guest)
		answer = sniff.Denied
	} else {
		// Whatever it is that it sends.
		_, _ = guest.Read(make([]byte, copyBytes))
	}
	farewell(guest, answer)
}

// farewell sends the last words of a connection, and reads on for a moment: a close with something unread would be a
// reset, which takes the words away again.
func farewell(guest *gonet.TCPConn, words []byte) {
	_ = guest.SetDeadline(time.Now().Add(explainTime))
	_, _ = guest.Write(words)
	_ = guest.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(guest, 1<<20))
}

// pair is a connection of the guest's and that of the host for it.
type pair struct {
	network  *Network
	flow     *flow
	guest    *guestConn
	endpoint tcpip.Endpoint
	host     *hostConn
	// answered gets the first bytes that the host's side sends, once.
	answered chan []byte
}

// pair joins them, at the pace of the network; ctx ends whoever waits for it. said is what the guest says, from its first byte on.
func (n *Network) pair(
	ctx context.Context, one *flow, guest *gonet.TCPConn, said io.Reader, endpoint tcpip.Endpoint, host *net.TCPConn,
) *pair {
	return &pair{
		network: n, flow: one, endpoint: endpoint,
		guest: &guestConn{guest, paced{said, ctx, n.pace.up}},
		host:  &hostConn{host, paced{host, ctx, n.pace.down}},
	}
}

// abort ends both with a reset.
func (p *pair) abort() {
	_ = p.host.SetLinger(0)
	_ = p.host.Close()
	p.endpoint.Abort()
}

// carry copies both ways until both have ended. An end of one side is given on, a reset too.
func (p *pair) carry(checked bool) {
	_ = p.host.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount})
	p.answered = make(chan []byte, 1)
	down := make(chan error, 1)
	go func() { down <- p.down() }()
	up := make(chan error, 1)
	go func() {
		if checked {
			up <- p.checkedUp()
			return
		}
		up <- p.up(p.guest)
	}()
	for range 2 {
		var err error
		select {
		case err = <-down:
			if err == nil {
				_ = p.guest.CloseWrite()
				_ = p.guest.SetReadDeadline(time.Now().Add(halfOpenTime))
			}
		case err = <-up:
			if err == nil {
				_ = p.host.CloseWrite()
				_ = p.host.SetReadDeadline(time.Now().Add(halfOpenTime))
			}
		}
		if err != nil {
			// Both copies end by this.
			p.abort()
		}
	}
	_ = p.guest.Close()
	_ = p.host.Close()
}

func (p *pair) up(in io.Reader) error {
	_, err := io.CopyBuffer(onlyWriter{p.host}, onlyReader{in}, make([]byte, copyBytes))
	return err
}

func (p *pair) down() error {
	buffer := make([]byte, copyBytes)
	first := true
	for {
		count, err := p.host.Read(buffer)
		if first {
			first = false
			p.answered <- append([]byte(nil), buffer[:min(count, 16)]...)
		}
		if count > 0 {
			if _, err := p.guest.Write(buffer[:count]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// onlyReader and onlyWriter keep io.Copy from ways of its own, which hold a thread each or a larger buffer.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// shortly is why a connection was not made, in a word or two.
func shortly(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer"
	}
	return "it was given up"
}

// taken tells an address that somebody else listens on.
func taken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

const tcpProtocol = tcp.ProtocolNumber
