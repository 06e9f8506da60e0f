// Package broker has a guest use secrets that it never sees. Of connections to hosts that a secret is for it ends the TLS,
// with an authority that the guest trusts, puts values in the place of placeholders in requests, and placeholders in the
// place of values in answers. TLS, certificates and HTTP are the standard library's.
//
// This file owns the connections of the guest's: taken, shaken hands with, served.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	portHTTP  = 80
	portHTTPS = 443
	// handshakeTime is how long a guest may take to shake hands, headTime for the head of a request, idleTime between two.
	handshakeTime = 60 * time.Second
	headTime      = 60 * time.Second
	idleTime      = 5 * time.Minute
	maxHead       = 1 << 20
)

// What is told of a connection, by its code.
const (
	CodeUsed        = "secret_used"
	CodeNotTrusted  = "tls_not_trusted"
	CodeMismatch    = "host_mismatch"
	CodeUntrusted   = "upstream_not_trusted"
	CodeUnreachable = "upstream_failed"
	CodeEncoded     = "response_encoded"
	CodeTooLong     = "body_not_looked_at"
	CodeUnfit       = "secret_unfit"
	CodeBody        = "body_malformed"
)

// Event is something that is told. No text of it is a server's or a guest's.
type Event struct {
	Code    string
	Allowed bool
	// Secret is the name of one, where it is about one.
	Secret string
	Host   string
	To     netip.AddrPort
	Reason string
}

// Target is what a connection of the guest's is to, and how its host is reached.
type Target struct {
	Host string
	To   netip.AddrPort
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Broker is one guest's. Its methods may be called at the same time.
type Broker struct {
	state     atomic.Pointer[state]
	note      func(Event)
	tls       *tls.Config
	server    *http.Server
	accepted  chan net.Conn
	closed    chan struct{}
	transport *http.Transport
	configure sync.Mutex
}

// New makes one that brokers nothing before Configure. Events are given to note.
func New(note func(Event)) *Broker {
	b := &Broker{note: note, accepted: make(chan net.Conn), closed: make(chan struct{})}
	b.state.Store(&state{})
	b.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
		GetCertificate: b.certificate,
	}
	b.transport = b.newTransport()
	b.server = &http.Server{
		Handler: http.HandlerFunc(b.serve), ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHead,
		DisableGeneralOptionsHandler: true,
		TLSNextProto:                 map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, guestOf(conn))
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { _ = b.server.Serve(&listener{accepted: b.accepted, closed: b.closed}) }()
	return b
}

// Configure makes these the secrets from now on. On an error nothing changes.
func (b *Broker) Configure(config Config) error {
	b.configure.Lock()
	defer b.configure.Unlock()
	next, err := config.compile(b.state.Load())
	if err != nil {
		return err
	}
	b.state.Store(next)
	return nil
}

// Watches tells whether a connection to a port of an address that was told for these names may be one to look into.
func (b *Broker) Watches(port uint16, names []string) bool {
	s := b.state.Load()
	hosts := s.https
	if port == portHTTP {
		hosts = s.http
	} else if port != portHTTPS {
		return false
	}
	for _, name := range names {
		if hosts[name] {
			return true
		}
	}
	return false
}

// Close lets go of the hosts. Guests' connections are whoever's gave them.
func (b *Broker) Close() {
	_ = b.server.Close()
	b.transport.CloseIdleConnections()
}

// Serve carries a connection of the guest's to its end. conn gives what the guest said from the beginning, its TLS
// included on port 443; the target's host is one that Watches, and what the guest asks for by name.
func (b *Broker) Serve(ctx context.Context, conn net.Conn, target Target) {
	guest := &guestConn{Conn: conn, target: target, over: make(chan struct{})}
	defer guest.Close()
	var served net.Conn = guest
	if target.To.Port() == portHTTPS {
		secure := tls.Server(guest, b.tls)
		shaking, done := context.WithTimeout(ctx, handshakeTime)
		err := secure.HandshakeContext(shaking)
		done()
		if err != nil {
			b.noteHandshake(ctx, target, err)
			return
		}
		served = secure
	}
	select {
	case b.accepted <- served:
	case <-ctx.Done():
		return
	case <-b.closed:
		return
	}
	select {
	case <-guest.over:
	case <-ctx.Done():
		return
	}
	if target.To.Port() == portHTTPS && guest.requests.Load() == 0 && ctx.Err() == nil {
		b.tell(target, Event{Code: CodeNotTrusted, Reason: "the client left after the handshake and asked for nothing: it may know the host's own certificate"})
	}
}

func (b *Broker) noteHandshake(ctx context.Context, target Target, err error) {
	if ctx.Err() != nil {
		return
	}
	reason := "the client does not end the handshake: it does not trust this workspace's authority, or knows the host's own certificate"
	switch text := err.Error(); {
	case strings.Contains(text, "remote error"), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	case strings.Contains(text, "application protocol"):
		reason = "the client speaks no HTTP/1.1"
	default:
		reason = "the handshake failed"
	}
	b.tell(target, Event{Code: CodeNotTrusted, Reason: reason})
}

func (b *Broker) tell(target Target, event Event) {
	event.Host, event.To = target.Host, target.To
	b.note(event)
}

// certificate is that of the host which the connection is to; a client that asks for another gets none.
func (b *Broker) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	guest, ok := hello.Conn.(*guestConn)
	authority := b.state.Load().authority
	if !ok || authority == nil || !strings.EqualFold(strings.TrimSuffix(hello.ServerName, "."), guest.target.Host) {
		return nil, errors.New("another name than the connection's")
	}
	return authority.leaf(guest.target.Host)
}

type guestKey struct{}

// guestConn is a connection of the guest's, which says what it is to and when it is over.
type guestConn struct {
	net.Conn
	target   Target
	requests atomic.Int64
	once     sync.Once
	over     chan struct{}
}

// Close is net.Conn's.
func (g *guestConn) Close() error {
	g.once.Do(func() { close(g.over) })
	return g.Conn.Close()
}

func guestOf(conn net.Conn) *guestConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	guest, _ := conn.(*guestConn)
	return guest
}

// CloseWrite is that of a TCP connection.
func (g *guestConn) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// listener gives the server connections that are there already.
type listener struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is net.Listener's.
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }
