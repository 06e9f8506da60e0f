package netd

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"pyro.dev/pyro/go/internal/broker"
	"pyro.dev/pyro/go/internal/netpolicy"
)

const (
	token       = "a-token-0123456789"
	placeholder = "pyro-secret-00112233445566778899aabbccddeeff"
)

// brokering is a ground whose guest has a secret for api.example.
type brokering struct {
	*ground
	authority broker.Authority
	foreign   *x509.CertPool
	mutex     sync.Mutex
	asked     []string
}

// newBrokering has one host at the public address, with a certificate of its own for every name, and the same by plain HTTP.
func newBrokering(t *testing.T, allow ...string) *brokering {
	t.Helper()
	b := &brokering{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mutex.Lock()
		defer b.mutex.Unlock()
		b.asked = append(b.asked, r.Host+" "+r.Header.Get("X-Key"))
		_, _ = io.WriteString(w, "it said "+r.Header.Get("X-Key"))
	})
	secure := httptest.NewTLSServer(handler)
	plain := httptest.NewServer(handler)
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	b.foreign = x509.NewCertPool()
	b.foreign.AddCert(secure.Certificate())
	var err error
	// httptest's certificate is for example.com.
	if b.authority, err = broker.NewAuthority([]string{"example.com"}); err != nil {
		t.Fatal(err)
	}
	servers := nameServer(t, map[string][]string{
		"example.com": {publicAddress}, "other.example": {publicAddress}, "rebinding.example": {publicAddress, "10.0.0.1"},
	})
	b.ground = newGround(t, Config{
		Policy: netpolicy.Policy{AllowHosts: allow}, Resolvers: []string{servers},
		Broker: broker.Config{Authority: b.authority, Roots: pemOf(secure.Certificate()), Secrets: []broker.Secret{
			{Name: "TOKEN", Placeholder: placeholder, Value: []byte(token), Hosts: []string{"http://example.com"}},
		}},
	})
	b.network.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		to := secure.Listener.Addr()
		if strings.HasSuffix(address, ":80") {
			to = plain.Listener.Addr()
		}
		return (&net.Dialer{}).DialContext(ctx, network, to.String())
	}
	return b
}

// ask sends a request over TLS to the public address by a name, which the other end has to have a certificate for.
func (b *brokering) ask(roots *x509.CertPool, name, host string) (string, error) {
	conn := b.must(publicAddress, portTLS)
	secure := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: roots})
	if roots == nil {
		secure = tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	}
	if err := secure.Handshake(); err != nil {
		return "", err
	}
	return say(secure, host)
}

func say(conn net.Conn, host string) (string, error) {
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nX-Key: %s\r\n\r\n", host, placeholder); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(body)), err
}

func (b *brokering) own() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(b.authority.Certificate))
	return pool
}

// was returns what the host was asked since it was last called.
func (b *brokering) was() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	asked := strings.Join(b.asked, ", ")
	b.asked = nil
	return asked
}

func TestASecretIsBrokered(t *testing.T) {
	for _, allow := range [][]string{nil, {"example.com"}} {
		b := newBrokering(t, allow...)
		b.query("example.com.", dnsmessage.TypeA)
		said, err := b.ask(b.own(), "example.com", "example.com")
		if err != nil || said != "200 it said "+placeholder {
			t.Error(said, err)
		}
		if asked := b.was(); asked != "example.com "+token {
			t.Error(asked)
		}
		d := b.awaitDecision(func(d Decision) bool { return d.Code == broker.CodeUsed })
		if d.Name != "example.com" || d.Secret != "TOKEN" || d.Verdict != "allowed" || d.Address != publicAddress || d.Port != portTLS {
			t.Errorf("%+v", d)
		}
		said, err = say(b.must(publicAddress, portHTTP), "example.com")
		if asked := b.was(); err != nil || said != "200 it said "+placeholder || asked != "example.com "+token {
			t.Error(said, err, asked)
		}
		said, err = b.ask(b.own(), "example.com", "other.example")
		if err != nil || !strings.HasPrefix(said, "421 ") || b.was() != "" {
			t.Error(said, err)
		}
		b.awaitDecision(func(d Decision) bool { return d.Code == broker.CodeMismatch && d.Verdict == "denied" })
		for _, d := range b.journal.decisions(t) {
			if strings.Contains(fmt.Sprint(d), token) {
				t.Errorf("%+v", d)
			}
		}
	}
}

func TestOthersAreEndToEnd(t *testing.T) {
	b := newBrokering(t)
	// Nobody was told that this address is example.com's.
	if _, err := b.ask(b.own(), "example.com", "example.com"); err == nil {
		t.Error("a connection to an address that was not told for the name is looked into")
	}
	b.query("example.com.", dnsmessage.TypeA)
	b.query("other.example.", dnsmessage.TypeA)
	// The same address under another name: its own certificate, and the placeholder.
	said, err := b.ask(nil, "other.example", "other.example")
	if asked := b.was(); err != nil || said != "200 it said "+placeholder || asked != "other.example "+placeholder {
		t.Error(said, err, asked)
	}
	if _, err := b.ask(b.own(), "other.example", "other.example"); err == nil {
		t.Error("another host is shown a certificate of the workspace's")
	}
	// And whoever says the listed host inside of it.
	said, err = b.ask(nil, "other.example", "example.com")
	if asked := b.was(); err != nil || asked != "example.com "+placeholder {
		t.Error(said, err, asked)
	}
	said, err = say(b.must(publicAddress, portHTTP), "other.example")
	if asked := b.was(); err != nil || asked != "other.example "+placeholder {
		t.Error(said, err, asked)
	}
	// No TLS and no HTTP at all.
	odd := b.must(publicAddress, portHTTP)
	if _, err := io.WriteString(odd, "HELLO\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(odd)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Errorf("%q", answer)
	}
}

func TestANameThatIsTurnedToAnotherAddressGetsNothing(t *testing.T) {
	b := newBrokering(t)
	b.query("rebinding.example.", dnsmessage.TypeA)
	if answer := b.query("rebinding.example.", dnsmessage.TypeA); answer.RCode != dnsmessage.RCodeRefused {
		t.Error(answer.RCode)
	}
	said, err := b.ask(nil, "rebinding.example", "rebinding.example")
	if asked := b.was(); err != nil || strings.Contains(asked, token) {
		t.Error(said, err, asked)
	}
}

func TestABrokeredConnectionIsCutByThePolicy(t *testing.T) {
	b := newBrokering(t)
	b.query("example.com.", dnsmessage.TypeA)
	conn := b.must(publicAddress, portTLS)
	secure := tls.Client(conn, &tls.Config{ServerName: "example.com", RootCAs: b.own()})
	if _, err := say(secure, "example.com"); err != nil {
		t.Fatal(err)
	}
	if report := b.network.Configure(Config{Policy: netpolicy.Policy{AllowHosts: []string{"other.example"}}}); report.Error != "" {
		t.Fatal(report.Error)
	}
	_ = secure.SetDeadline(time.Now().Add(patience))
	// Reset, or ended in good manners, whichever side is quicker; one that goes on says nothing until the time is over.
	if _, err := io.ReadAll(secure); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("it goes on:", err)
	}
}

func TestManyBrokeredRequestsAtOnce(t *testing.T) {
	const count = 200
	b := newBrokering(t)
	b.query("example.com.", dnsmessage.TypeA)
	var all sync.WaitGroup
	for range count {
		all.Add(1)
		go func() {
			defer all.Done()
			if said, err := b.ask(b.own(), "example.com", "example.com"); err != nil || said != "200 it said "+placeholder {
				t.Error(said, err)
			}
		}()
	}
	all.Wait()
	if asked := b.was(); strings.Count(asked, token) != count {
		t.Error(asked)
	}
}

func pemOf(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}
