// This file owns WebSockets: a connection of the guest's and one to the host, with messages carried between them as whole
// messages, so that a value is found in those of the host however they are cut into frames.
package broker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http/httpguts"

	"pyro.dev/pyro/go/internal/redact"
)

// upgradeTime is how long a host may take to agree.
const upgradeTime = 60 * time.Second

func isWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// ofTheHandshake are the headers that each of the two connections has of its own.
var ofTheHandshake = []string{
	"Connection", "Upgrade", "Keep-Alive", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
	"Sec-Websocket-Protocol", "Sec-Websocket-Accept", "Transfer-Encoding", "Content-Length",
}

// webSocket carries one to its end.
func (x *exchange) webSocket(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	header := without(r.Header)
	host, res, err := x.upgrade(ctx, r, header)
	if err != nil && res != nil {
		x.passOn(w, res)
		return
	}
	if err != nil {
		x.fail(w, r, err)
		return
	}
	defer host.CloseNow()
	x.redactHeader(res.Header)
	for name, values := range without(res.Header) {
		w.Header()[name] = values
	}
	options := &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled}
	if chosen := host.Subprotocol(); chosen != "" {
		options.Subprotocols = []string{x.state.redactor.Text(chosen)}
	}
	guest, err := websocket.Accept(w, r, options)
	if err != nil {
		return
	}
	defer guest.CloseNow()
	host.SetReadLimit(-1)
	guest.SetReadLimit(-1)
	over := make(chan struct{}, 2)
	go func() { pump(ctx, guest, host, nil); over <- struct{}{} }()
	go func() { pump(ctx, host, guest, x.state.redactor); over <- struct{}{} }()
	<-over
}

func (x *exchange) upgrade(ctx context.Context, r *http.Request, header http.Header) (*websocket.Conn, *http.Response, error) {
	ctx, done := context.WithTimeout(ctx, upgradeTime)
	defer done()
	client := &http.Client{
		Transport:     x.broker.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var protocols []string
	for _, one := range strings.Split(strings.Join(r.Header.Values("Sec-Websocket-Protocol"), ","), ",") {
		if one = strings.TrimSpace(one); one != "" {
			protocols = append(protocols, one)
		}
	}
	return websocket.Dial(ctx, x.scheme()+"://"+x.target.Host+r.URL.RequestURI(), &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: header, Subprotocols: protocols, CompressionMode: websocket.CompressionDisabled,
	})
}

// passOn gives the guest an answer with which a host refuses: its head, and the beginning of its body.
func (x *exchange) passOn(w http.ResponseWriter, res *http.Response) {
	if res.StatusCode == http.StatusSwitchingProtocols || res.Header.Get("Content-Encoding") != "" {
		refuse(w, http.StatusBadGateway, CodeUnreachable, "the host does not agree to a WebSocket")
		return
	}
	body, _ := io.ReadAll(res.Body)
	x.redactHeader(res.Header)
	for name, values := range without(res.Header) {
		w.Header()[name] = values
	}
	w.WriteHeader(res.StatusCode)
	_, _ = io.WriteString(w, x.state.redactor.Text(string(body)))
}

func without(header http.Header) http.Header {
	rest := header.Clone()
	for _, name := range ofTheHandshake {
		delete(rest, name)
	}
	return rest
}

// pump carries messages one way until there are no more, and gives on how it ended.
func pump(ctx context.Context, from, to *websocket.Conn, redactor *redact.Redactor) {
	for {
		err := message(ctx, from, to, redactor)
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) {
			_ = to.CloseNow()
			return
		}
		if closed.Code == websocket.StatusNoStatusRcvd {
			closed.Code = websocket.StatusNormalClosure
		}
		reason := closed.Reason
		if redactor != nil {
			reason = redactor.Text(reason)
		}
		_ = to.Close(closed.Code, reason)
		return
	}
}

func message(ctx context.Context, from, to *websocket.Conn, redactor *redact.Redactor) error {
	kind, source, err := from.Reader(ctx)
	if err != nil {
		return err
	}
	if redactor != nil {
		done := make(chan struct{})
		defer close(done)
		source = redactor.Reader(source, done)
	}
	out, err := to.Writer(ctx, kind)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, source); err != nil {
		return err
	}
	return out.Close()
}
