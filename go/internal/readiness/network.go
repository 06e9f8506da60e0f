// This file owns the looks at what listens: a connection that is taken, an answer over HTTP.
package readiness

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// headLimit bounds the head of an answer, bytes.
const headLimit = 64 << 10

// TCP looks whether host:port takes a connection.
func TCP(ctx context.Context, address string) error {
	connection, err := dial(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %s", address, plain(err))
	}
	_ = connection.Close()
	return nil
}

// ValidAddress tells whether address is HOST:PORT with a port that there can be.
func ValidAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if number, err := strconv.Atoi(port); host == "" || err != nil || number < 1 || number > 65535 {
		return fmt.Errorf("%s is no HOST:PORT", address)
	}
	return nil
}

// HTTP looks whether a URL answers with a status of 200 to 399. A redirect is such an answer, and not followed: where it
// leads may be another's. Nor is a certificate checked: it is the service's own word for its name. Spoken by hand, as
// net/http's client would be a tenth of guestd.
func HTTP(ctx context.Context, text string) error {
	status, err := ask(ctx, text)
	if err != nil {
		return fmt.Errorf("%s: %s", text, plain(err))
	}
	if status < 200 || status > 399 {
		return fmt.Errorf("%s answered with %d", text, status)
	}
	return nil
}

// ask returns the status of the answer to a GET. The body is not read: it may have no end.
func ask(ctx context.Context, text string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, text, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("User-Agent", "pyro")
	request.Close = true
	connection, err := dial(ctx, "tcp", hostPort(request.URL))
	if err != nil {
		return 0, err
	}
	defer connection.Close()
	defer context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })()
	if request.URL.Scheme == "https" {
		connection = tls.Client(connection, &tls.Config{ServerName: request.URL.Hostname(), InsecureSkipVerify: true})
	}
	if err := request.Write(connection); err != nil {
		return 0, err
	}
	answers := bufio.NewReader(io.LimitReader(connection, headLimit))
	for {
		response, err := http.ReadResponse(answers, request)
		if err != nil {
			return 0, err
		}
		if response.StatusCode < 100 || response.StatusCode > 199 {
			return response.StatusCode, nil
		}
	}
}

func hostPort(of *url.URL) string {
	port := of.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[of.Scheme]
	}
	return net.JoinHostPort(of.Hostname(), port)
}

// ValidURL tells whether text is an http or https URL that can be asked.
func ValidURL(text string) error {
	parsed, err := url.Parse(text)
	if err != nil {
		return err
	}
	if (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Hostname() == "" {
		return errors.New("not an http or https URL")
	}
	return nil
}

// dial connects. localhost is this machine also where the workspace's files do not say so.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host != "localhost" {
		return dialer.DialContext(ctx, network, address)
	}
	connection, err := dialer.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return connection, nil
	}
	if other, second := dialer.DialContext(ctx, network, net.JoinHostPort("::1", port)); second == nil {
		return other, nil
	}
	return nil, err
}
