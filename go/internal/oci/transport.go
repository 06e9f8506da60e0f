// This file owns the connections to a registry: plain HTTP only to this host, no way from outside into private
// networks, and nothing that waits for ever.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	connectDeadline = 15 * time.Second
	maxRedirects    = 5
)

var errStalled = errors.New("no byte came in time")

// isLoopback says whether an authority names this host.
func isLoopback(authority string) bool {
	host := authority
	if name, _, err := net.SplitHostPort(authority); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

func isPrivate(host string) bool {
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return host == "localhost"
	}
	address = address.Unmap()
	return address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast() || address.IsUnspecified()
}

// guarded refuses what the registry must not lead to, and ends requests that stall.
type guarded struct {
	inner http.RoundTripper
	// plain allows http, because the registry is on this host.
	plain bool
	idle  time.Duration
}

func newTransport(plain bool, idle time.Duration) http.RoundTripper {
	return &guarded{
		inner: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: connectDeadline}).DialContext,
			TLSHandshakeTimeout:    connectDeadline,
			ResponseHeaderTimeout:  idle,
			MaxResponseHeaderBytes: 256 << 10,
			ForceAttemptHTTP2:      true,
			// What is counted and hashed is what was sent.
			DisableCompression: true,
		},
		plain: plain,
		idle:  idle,
	}
}

func (g *guarded) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme != "https" && !(g.plain && isLoopback(request.URL.Host)) {
		return nil, fmt.Errorf("%s to %s is refused: only a registry on this host may speak plain HTTP",
			request.URL.Scheme, request.URL.Host)
	}
	context, cancel := context.WithCancelCause(request.Context())
	response, err := g.inner.RoundTrip(request.WithContext(context))
	if err != nil {
		cancel(nil)
		var network net.Error
		if errors.As(err, &network) && network.Timeout() {
			return nil, fmt.Errorf("%w: %w", errStalled, err)
		}
		return nil, err
	}
	body := &watched{inner: response.Body, idle: g.idle, cancel: cancel, context: context}
	body.watch = time.AfterFunc(g.idle, func() { cancel(errStalled) })
	response.Body = body
	return response, nil
}

// checkRedirect lets a registry send pyro elsewhere, but not around in circles, and not into networks that it could not
// reach itself.
func checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	if host := request.URL.Hostname(); host != via[0].URL.Hostname() && isPrivate(host) {
		return fmt.Errorf("it redirects to %s, an address that is not public", host)
	}
	return nil
}

// watched is a body that must go on: each read starts the time anew.
type watched struct {
	inner   io.ReadCloser
	idle    time.Duration
	watch   *time.Timer
	context context.Context
	cancel  context.CancelCauseFunc
	once    sync.Once
}

func (w *watched) Read(into []byte) (int, error) {
	n, err := w.inner.Read(into)
	if n > 0 {
		w.watch.Reset(w.idle)
	}
	if err != nil && err != io.EOF && context.Cause(w.context) == errStalled {
		err = errStalled
	}
	return n, err
}

func (w *watched) Close() error {
	w.once.Do(func() {
		w.watch.Stop()
		w.cancel(nil)
	})
	return w.inner.Close()
}
