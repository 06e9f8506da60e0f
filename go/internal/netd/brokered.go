// This file owns the connections to hosts that a secret is brokered for: told from others by the name that they ask for,
// and given to the broker. What asks for another name goes on from end to end.
package netd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"pyro.dev/pyro/go/internal/broker"
	"pyro.dev/pyro/go/internal/netpolicy"
	"pyro.dev/pyro/go/internal/sniff"
)

// peekTime is how long a client may say nothing before its connection goes on from end to end: its host may speak first.
const peekTime = 5 * time.Second

// acceptWatched takes a connection that the policy allows, to an address that was told for a brokered host. It returns
// when that has ended, or with what the guest has said so far where it is not the broker's.
func (n *Network) acceptWatched(
	ctx context.Context, request *tcp.ForwarderRequest, one *flow, crowded bool,
) (guest *gonet.TCPConn, endpoint tcpip.Endpoint, said io.Reader, ok bool) {
	guest, endpoint, err := open(request, crowded)
	if err != nil {
		return nil, nil, nil, false
	}
	defer context.AfterFunc(ctx, endpoint.Abort)()
	_ = guest.SetReadDeadline(time.Now().Add(peekTime))
	host, said, err := peekHost(guest, one.to.Port())
	_ = guest.SetReadDeadline(time.Time{})
	if err != nil {
		guest.Close()
		return nil, nil, nil, false
	}
	name, isName := netpolicy.Name(host)
	if !isName || !slices.Contains(one.names, name) || !n.broker.Watches(one.to.Port(), []string{name}) {
		return guest, endpoint, said, true
	}
	n.flows.claim(one, name)
	verdict := n.rules.Load().Claim(name, one.to.Addr(), one.names)
	n.note(protocolTCP, one.to, verdict)
	if !verdict.Allowed {
		guest.Close()
		return nil, nil, nil, false
	}
	target := broker.Target{Host: name, To: one.to, Dial: n.dialPaced}
	n.broker.Serve(ctx, &guestConn{guest, paced{said, ctx, n.pace.up}}, target)
	return nil, nil, nil, false
}

// peekHost is the name that a connection asks for, empty for none, and all that was read, to be read again.
func peekHost(guest net.Conn, port uint16) (string, io.Reader, error) {
	var read bytes.Buffer
	host, err := readHost(io.TeeReader(onlyReader{guest}, &read), port)
	return host, io.MultiReader(&read, guest), unlessLate(err)
}

func readHost(guest io.Reader, port uint16) (string, error) {
	if port == portTLS {
		name, _, err := sniff.ServerName(guest)
		return name, err
	}
	in := bufio.NewReaderSize(guest, peekBytes)
	kind, err := kindOf(in)
	if err != nil || kind != kindHTTP {
		return "", err
	}
	request, err := sniff.ReadRequest(in)
	if err != nil {
		return "", err
	}
	return request.Host, nil
}

// unlessLate leaves what ends the connection: what says nothing, or nothing that is known, is not the broker's, and no more.
func unlessLate(err error) error {
	for _, harmless := range []error{os.ErrDeadlineExceeded, sniff.ErrNotTLS, sniff.ErrNoName, sniff.ErrHidden, sniff.ErrNotHTTP, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, harmless) {
			return nil
		}
	}
	return err
}

// dialPaced is dial, at the pace of the network. Such a connection may serve several of the guest's, one after the other.
func (n *Network) dialPaced(ctx context.Context, network, address string) (net.Conn, error) {
	dialed, err := n.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host := dialed.(*net.TCPConn)
	return &hostConn{host, paced{host, context.Background(), n.pace.down}}, nil
}

// noteBroker writes what the broker tells.
func (n *Network) noteBroker(event broker.Event) {
	word := "denied"
	if event.Allowed {
		word = "allowed"
	}
	protocol := "http"
	if event.To.Port() == portTLS {
		protocol = "tls"
	}
	n.journal.Note(Decision{
		Protocol: protocol, Name: event.Host, Address: event.To.Addr().String(), Port: event.To.Port(), Verdict: word,
		Reason: event.Reason, Code: event.Code, Secret: event.Secret,
	})
}
