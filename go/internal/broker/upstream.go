// This file owns the connections to the hosts: to the address that the guest was told, with the certificate that the name
// wants.
package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"
)

const (
	upstreamTime = 15 * time.Second
	// keptTime is how long a connection to a host waits for another request, keptEach how many do.
	keptTime = 30 * time.Second
	keptEach = 64
)

// upstreamError is why a host gave no answer that could be passed on.
type upstreamError struct{ code, reason string }

func (e *upstreamError) Error() string { return e.reason }

func (b *Broker) newTransport() *http.Transport {
	return &http.Transport{
		DialContext: b.dial, DialTLSContext: b.dialTLS, DisableCompression: true, IdleConnTimeout: keptTime,
		MaxIdleConnsPerHost: keptEach, MaxResponseHeaderBytes: maxHead,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

// dial connects to where the guest's connection is to, whatever the name stands for by now.
func (b *Broker) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	x := exchangeOf(ctx)
	if x == nil {
		return nil, errors.New("nobody asks")
	}
	conn, err := x.target.Dial(ctx, network, x.target.To.String())
	if err != nil {
		return nil, &upstreamError{CodeUnreachable, "the host cannot be connected to"}
	}
	return conn, nil
}

func (b *Broker) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := b.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	secure := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, ServerName: x.target.Host, RootCAs: x.state.roots,
	})
	shaking, done := context.WithTimeout(ctx, upstreamTime)
	defer done()
	if err := secure.HandshakeContext(shaking); err != nil {
		conn.Close()
		return nil, handshakeError(err)
	}
	return secure, nil
}

func handshakeError(err error) error {
	var verification *tls.CertificateVerificationError
	if !errors.As(err, &verification) {
		return &upstreamError{CodeUnreachable, "the TLS handshake with the host failed"}
	}
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &name):
		return &upstreamError{CodeUntrusted, "the certificate of the host is for another name"}
	case errors.As(err, &unknown):
		return &upstreamError{CodeUntrusted, "the certificate of the host is signed by nobody that this system trusts"}
	}
	return &upstreamError{CodeUntrusted, "the certificate of the host is not valid"}
}
