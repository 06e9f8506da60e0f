// This file owns a request on its way to its host: whether it may go there, and what is put into it.
package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
)

// mostBody is how long a body may be to be looked into, bytes; a longer one is passed on as it is.
const mostBody = 1 << 20

var errBody = errors.New("the body of the request is not whole, or badly framed")

// exchange is a request and its answer.
type exchange struct {
	broker *Broker
	target Target
	state  *state
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// scheme is that of the connection, and not what a request says.
func (x *exchange) scheme() string {
	if x.target.To.Port() == portHTTPS {
		return "https"
	}
	return "http"
}

func (x *exchange) tell(event Event) { x.broker.tell(x.target, event) }

// serve is the server's handler.
func (b *Broker) serve(w http.ResponseWriter, r *http.Request) {
	guest, ok := r.Context().Value(guestKey{}).(*guestConn)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	guest.requests.Add(1)
	x := &exchange{broker: b, target: guest.target, state: b.state.Load()}
	secrets := x.state.allowed(x.target.Host, x.scheme() == "https")
	if r.Method == http.MethodConnect || !x.names(r.Host) || len(secrets) == 0 {
		x.tell(Event{Code: CodeMismatch, Reason: "a request is for another host than its connection"})
		refuse(w, http.StatusMisdirectedRequest, CodeMismatch, "the request is for another host than its connection")
		return
	}
	if err := x.substitute(r, secrets); err != nil {
		x.fail(w, r, err)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if isWebSocket(r) {
		x.webSocket(w, r)
		return
	}
	b.proxy().ServeHTTP(finalOnly{w}, r)
}

// names tells whether what a request says it is for is what its connection is to.
func (x *exchange) names(host string) bool {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if port != fmt.Sprint(x.target.To.Port()) {
			return false
		}
		host = name
	}
	return strings.EqualFold(strings.TrimSuffix(host, "."), x.target.Host)
}

// substitute puts values into all of a request. Errors: errUnfit, errBody.
func (x *exchange) substitute(r *http.Request, secrets []secret) error {
	s := newSubstitution(secrets)
	if err := s.header(r.Header); err != nil {
		x.tell(Event{Code: CodeUnfit, Reason: err.Error()})
		return err
	}
	r.URL.RawQuery = s.query(r.URL.RawQuery)
	if err := x.body(r, s); err != nil {
		return err
	}
	// An answer in parts, or one that is compressed, would show what is not found in it.
	for _, name := range []string{"Range", "If-Range", "Expect"} {
		r.Header.Del(name)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for name := range s.used {
		x.tell(Event{Code: CodeUsed, Allowed: true, Secret: name, Reason: "the secret " + name + " was put into a request"})
	}
	return nil
}

// body puts values into a body that is not too long. Errors: errBody.
func (x *exchange) body(r *http.Request, s *substitution) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	var first []byte
	if r.ContentLength <= mostBody {
		var err error
		if first, err = io.ReadAll(io.LimitReader(r.Body, mostBody+1)); err != nil {
			return errBody
		}
	}
	if r.ContentLength > mostBody || len(first) > mostBody {
		x.tell(Event{Code: CodeTooLong, Allowed: true, Reason: fmt.Sprintf("a body of more than %d bytes is passed on as it is", mostBody)})
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(first), r.Body), r.Body}
		return nil
	}
	changed := s.body(first, r.Header.Get("Content-Type"))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(changed)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength, r.TransferEncoding, r.Trailer = int64(len(changed)), nil, nil
	return nil
}

// proxy passes a request on whose values are in it, and its answer back.
func (b *Broker) proxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: b.transport, FlushInterval: -1, ModifyResponse: answer, ErrorLog: b.server.ErrorLog,
		Rewrite: func(pr *httputil.ProxyRequest) {
			x := exchangeOf(pr.In.Context())
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = x.scheme(), x.target.Host, x.target.Host
			// Nothing else is changed, though a proxy might.
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values := pr.In.Header[name]; values != nil {
					pr.Out.Header[name] = values
				}
			}
			pr.Out.Header.Del("Upgrade")
			pr.Out.Header.Del("Connection")
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { exchangeOf(r.Context()).fail(w, r, err) },
	}
}

// fail says that a request got no answer, and why.
func (x *exchange) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if errors.Is(err, errUnfit) {
		refuse(w, http.StatusForbidden, CodeUnfit, err.Error())
		return
	}
	if errors.Is(err, errBody) {
		refuse(w, http.StatusBadRequest, CodeBody, err.Error())
		return
	}
	failure := &upstreamError{CodeUnreachable, "the host does not answer"}
	_ = errors.As(err, &failure)
	x.tell(Event{Code: failure.code, Reason: failure.reason})
	refuse(w, http.StatusBadGateway, failure.code, failure.reason)
}

// refuse answers in words that a person or a model reads.
func refuse(w http.ResponseWriter, status int, code, why string) {
	header := w.Header()
	clear(header)
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Pyro-Network", code)
	header.Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "pyro: %s (%s).\n", why, code)
}

// finalOnly leaves out the answers before the answer, whose headers nobody has looked into.
type finalOnly struct{ http.ResponseWriter }

// WriteHeader is http.ResponseWriter's.
func (f finalOnly) WriteHeader(status int) {
	if status >= 200 {
		f.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap is for http.ResponseController.
func (f finalOnly) Unwrap() http.ResponseWriter { return f.ResponseWriter }
