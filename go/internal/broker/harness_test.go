package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	patience    = 30 * time.Second
	api         = "api.example"
	other       = "other.example"
	token       = "tok/en+0123456789-sëcret"
	placeholder = "pyro-secret-00112233445566778899aabbccddeeff"
)

// ground is a broker with a guest on one side and a host on the other.
type ground struct {
	t      testing.TB
	broker *Broker
	// address is where the guest connects to, roots what it trusts.
	address string
	roots   *x509.CertPool
	config  Config
	host    *httptest.Server

	mutex  sync.Mutex
	events []Event
}

// newGround has handler be the host of every name.
func newGround(t testing.TB, handler http.HandlerFunc) *ground {
	t.Helper()
	g := &ground{t: t, roots: x509.NewCertPool()}
	foreign, err := NewAuthority([]string{api, other})
	must(t, err)
	signer, err := parseAuthority(foreign)
	must(t, err)
	g.host = httptest.NewUnstartedServer(handler)
	g.host.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return signer.leaf(hello.ServerName) }}
	g.host.EnableHTTP2 = false
	g.host.StartTLS()
	t.Cleanup(g.host.Close)

	g.config.Authority, err = NewAuthority([]string{api})
	must(t, err)
	g.config.Roots = foreign.Certificate
	g.config.Secrets = []Secret{{Name: "TOKEN", Placeholder: placeholder, Value: []byte(token + "\n"), Hosts: []string{api}}}
	g.roots.AppendCertsFromPEM([]byte(g.config.Authority.Certificate))
	g.broker = New(func(event Event) {
		g.mutex.Lock()
		defer g.mutex.Unlock()
		g.events = append(g.events, event)
	})
	t.Cleanup(g.broker.Close)
	must(t, g.broker.Configure(g.config))
	g.listen(portHTTPS)
	return g
}

// listen serves what the guest connects to, as netd does for addresses that were told for a name.
func (g *ground) listen(port uint16) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(g.t, err)
	g.t.Cleanup(func() { listener.Close() })
	g.address = listener.Addr().String()
	target := Target{Host: api, To: netip.AddrPortFrom(netip.MustParseAddr("9.9.9.9"), port)}
	target.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != target.To.String() {
			g.t.Errorf("the host is dialled at %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, g.host.Listener.Addr().String())
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go g.broker.Serve(context.Background(), conn, target)
		}
	}()
}

// client is one of the guest's; it trusts what its guest does.
func (g *ground) client() *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: g.roots},
		DialContext:       func(ctx context.Context, network, _ string) (net.Conn, error) { return net.Dial(network, g.address) },
		ForceAttemptHTTP2: true,
	}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do sends a request and returns the answer with its body.
func (g *ground) do(request *http.Request) (*http.Response, string) {
	g.t.Helper()
	res, err := g.client().Do(request)
	must(g.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(g.t, err)
	return res, string(body)
}

// get asks with the placeholder in a header.
func (g *ground) get(path string) (*http.Response, string) {
	g.t.Helper()
	request := newRequest(g.t, http.MethodGet, path, nil)
	request.Header.Set("Authorization", "Bearer "+placeholder)
	return g.do(request)
}

func newRequest(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	request, err := http.NewRequest(method, "https://"+api+path, body)
	must(t, err)
	return request
}

// raw says bytes over TLS and returns all that comes back.
func (g *ground) raw(text string) string {
	g.t.Helper()
	conn, err := tls.Dial("tcp", g.address, &tls.Config{RootCAs: g.roots, ServerName: api, NextProtos: []string{"http/1.1"}})
	must(g.t, err)
	defer conn.Close()
	must(g.t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, text)
	must(g.t, err)
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// told waits for an event with a code.
func (g *ground) told(code string) Event {
	g.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		g.mutex.Lock()
		for _, event := range g.events {
			if event.Code == code {
				g.mutex.Unlock()
				return event
			}
		}
		g.mutex.Unlock()
	}
	g.t.Fatalf("no %s among %+v", code, g.events)
	return Event{}
}

// clean fails when a text holds the value, and when an event does.
func (g *ground) clean(text string) {
	g.t.Helper()
	if strings.Contains(text, token) {
		g.t.Errorf("the value is in %q", text)
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	for _, event := range g.events {
		if strings.Contains(event.Reason+event.Host+event.Secret, token) {
			g.t.Errorf("the value is told: %+v", event)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// certificateOf is the first certificate of a PEM text.
func certificateOf(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	certificate, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return certificate
}
