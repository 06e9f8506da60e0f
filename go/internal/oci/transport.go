// This file owns the connections to a registry: plain HTTP only to this host, no other private address than the
// registry's own, and nothing that waits for ever. Private is what an address says; what a name stands for is not asked,
// since registries inside a company have names, and a proxy may be the one to look them up.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
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
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	address, err := netip.ParseAddr(host)
	if err != nil {
		// No name ends in a number: what does is one of the older ways to write an address.
		last := host[strings.LastIndexByte(host, '.')+1:]
		return host == "localhost" || strings.HasSuffix(host, ".localhost") || last != "" && last[0] >= '0' && last[0] <= '9'
	}
	address = address.Unmap()
	return address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast() || address.IsUnspecified()
}

// guarded refuses what the registry must not lead to, and ends requests that stall.
type guarded struct {
	inner http.RoundTripper
	// home is the registry's own host, private or not.
	home string
	// plain allows http, because the registry is on this host.
	plain bool
	idle  time.Duration
}

// newTransport is for the registry of that authority.
func newTransport(registry string, idle time.Duration) http.RoundTripper {
	home := (&url.URL{Host: registry}).Hostname()
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
		home:  home,
		plain: isLoopback(registry),
		idle:  idle,
	}
}

func (g *guarded) RoundTrip(request *http.Request) (*http.Response, error) {
	// Here, because a login follows redirects of its own.
	if host := request.URL.Hostname(); host != g.home && isPrivate(host) {
		return nil, fmt.Errorf("it leads to %s, an address that is not public", host)
	}
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

// checkRedirect lets a registry send pyro elsewhere, but not around in circles. Where to, the transport decides.
func checkRedirect(_ *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
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
