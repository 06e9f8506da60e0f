package broker

import (
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func newPlainHost(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	host := httptest.NewServer(handler)
	t.Cleanup(host.Close)
	return host
}

func TestARequestForAnotherHostGetsNothing(t *testing.T) {
	var asked seen
	g := newGround(t, asked.remember(nil))
	ask := "X-Key: " + placeholder + "\r\nConnection: close\r\n\r\n"
	for name, text := range map[string]string{
		"another Host":           "GET / HTTP/1.1\r\nHost: " + other + "\r\n" + ask,
		"another port":           "GET / HTTP/1.1\r\nHost: " + api + ":8443\r\n" + ask,
		"a whole URL":            "GET https://" + other + "/ HTTP/1.1\r\nHost: " + api + "\r\n" + ask,
		"two hosts":              "GET / HTTP/1.1\r\nHost: " + api + "\r\nHost: " + other + "\r\n" + ask,
		"none":                   "GET / HTTP/1.1\r\n" + ask,
		"CONNECT":                "CONNECT " + api + ":443 HTTP/1.1\r\nHost: " + api + "\r\n" + ask,
		"a user":                 "GET / HTTP/1.1\r\nHost: " + other + "@" + api + "\r\n" + ask,
		"a line in the Host":     "GET / HTTP/1.1\r\nHost: " + api + "\r\n ." + other + "\r\n" + ask,
		"a space before a colon": "GET / HTTP/1.1\r\nHost : " + api + "\r\n" + ask,
	} {
		answer := g.raw(text)
		if !strings.HasPrefix(answer, "HTTP/1.1 4") {
			t.Errorf("%s: %q", name, answer)
		}
	}
	if asked.header != nil {
		t.Errorf("the host was asked: %v", asked.header)
	}
	if event := g.told(CodeMismatch); event.Allowed {
		t.Errorf("%+v", event)
	}
	g.clean("")
}

// Whatever a guest hides behind a length, the host is asked for what was looked at, one request after the other.
func TestARequestIsNotHiddenInAnother(t *testing.T) {
	var mutex sync.Mutex
	var paths []string
	g := newGround(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mutex.Lock()
		defer mutex.Unlock()
		paths = append(paths, r.Host+r.URL.Path+" "+fmt.Sprint(len(body), len(r.TransferEncoding)))
	})
	hidden := "GET /hidden HTTP/1.1\r\nHost: " + other + "\r\nX-Key: " + placeholder + "\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	end := "GET /end HTTP/1.1\r\nHost: " + api + "\r\nConnection: close\r\n\r\n"
	post := "POST /first HTTP/1.1\r\nHost: " + api + "\r\n"
	for name, text := range map[string]string{
		"in a length":             post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden + end,
		"a length and chunks":     post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + end,
		"behind chunks":           post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"two lengths":             post + "Content-Length: 0\r\nContent-Length: 9\r\n\r\n" + hidden,
		"a length with a sign":    post + "Content-Length: +0\r\n\r\n" + hidden,
		"an unknown encoding":     post + "Transfer-Encoding: chunked, identity\r\n\r\n" + hidden,
		"a bare line end":         post + "X: a\nHost: " + other + "\r\n\r\n" + hidden,
		"a continued line":        post + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk + end,
		"a length behind a break": post + "X: 1\r\n\tContent-Length: 0\r\nContent-Length: 0\r\n\r\n" + end,
	} {
		g.clean(g.raw(text))
		mutex.Lock()
		for _, path := range paths {
			if strings.Contains(path, "hidden") {
				t.Errorf("%s: the host was asked for %v", name, paths)
			}
			if !strings.HasPrefix(path, api+"/") {
				t.Errorf("%s: another host: %v", name, paths)
			}
		}
		paths = nil
		mutex.Unlock()
	}
}

func TestAContinuedHeaderIsOneLine(t *testing.T) {
	var asked seen
	g := newGround(t, asked.remember(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Header) }))
	g.config.Secrets[0].Value = []byte("first line\r\nX-Injected: yes")
	must(t, g.broker.Configure(g.config))
	if res, body := g.get("/"); res.StatusCode != http.StatusForbidden || !strings.Contains(body, CodeUnfit) || asked.header != nil {
		t.Error(res.Status, body, asked.header)
	}
	g.told(CodeUnfit)
	g.config.Secrets[0].Value = []byte(token)
	must(t, g.broker.Configure(g.config))
	answer := g.raw("GET / HTTP/1.1\r\nHost: " + api + "\r\nX-Key: Bearer\r\n " + placeholder + "\r\nConnection: close\r\n\r\n")
	g.clean(answer)
	if asked.header.Get("X-Key") != "Bearer "+token {
		t.Error(asked.header)
	}
}

func TestAnAnswerThatIsCompressed(t *testing.T) {
	var header http.Header
	g := newGround(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		kind := r.URL.Path[1:]
		w.Header().Set("Content-Encoding", kind)
		var out io.WriteCloser
		switch kind {
		case "gzip":
			out = gzip.NewWriter(w)
		case "deflate":
			out = zlib.NewWriter(w)
		default:
			_, _ = io.WriteString(w, "whatever this is")
			return
		}
		_, _ = io.WriteString(out, "it is "+token)
		out.Close()
	})
	for _, kind := range []string{"gzip", "deflate"} {
		request := newRequest(t, http.MethodGet, "/"+kind, nil)
		request.Header.Set("Accept-Encoding", kind)
		request.Header.Set("Range", "bytes=0-3")
		res, body := g.do(request)
		if body != "it is "+placeholder || res.Header.Get("Content-Encoding") != "" {
			t.Error(kind, res.Header, body)
		}
		if header.Get("Accept-Encoding") != "identity" || header.Get("Range") != "" {
			t.Error(header)
		}
	}
	for _, kind := range []string{"br", "zstd", "gzip, gzip"} {
		res, body := g.get("/" + strings.ReplaceAll(kind, " ", "%20"))
		if res.StatusCode != http.StatusBadGateway || !strings.Contains(body, CodeEncoded) {
			t.Error(kind, res.Status, body)
		}
	}
	g.told(CodeEncoded)
}

func TestAnswersBeforeTheAnswerAreLeftOut(t *testing.T) {
	g := newGround(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Alt-Svc", `h3=":443"`)
		_, _ = io.WriteString(w, "done")
	})
	answer := g.raw("GET / HTTP/1.1\r\nHost: " + api + "\r\nAuthorization: " + placeholder + "\r\nConnection: close\r\n\r\n")
	g.clean(answer)
	if strings.Contains(answer, "103") || strings.Contains(answer, "Alt-Svc") || !strings.Contains(answer, "done") {
		t.Errorf("%q", answer)
	}
}

func TestAHostThatIsNotTheOneItIsTakenFor(t *testing.T) {
	g := newGround(t, nil)
	g.config.Roots = g.config.Authority.Certificate
	must(t, g.broker.Configure(g.config))
	res, body := g.get("/")
	if res.StatusCode != http.StatusBadGateway || !strings.Contains(body, CodeUntrusted) {
		t.Error(res.Status, body)
	}
	if event := g.told(CodeUntrusted); event.Allowed || !strings.Contains(event.Reason, "signed by nobody") {
		t.Errorf("%+v", event)
	}
	g.host.Close()
	if res, body := g.get("/"); res.StatusCode != http.StatusBadGateway || !strings.Contains(body, CodeUnreachable) {
		t.Error(res.Status, body)
	}
}

func TestAnotherNameInTheHandshakeGetsNoCertificate(t *testing.T) {
	g := newGround(t, nil)
	client := g.client()
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = other
	if _, err := client.Do(newRequest(t, http.MethodGet, "/", nil)); err == nil {
		t.Error("it is shown one")
	}
	g.told(CodeNotTrusted)
}

func TestAnAnswerThatIsCutIsNotWhole(t *testing.T) {
	g := newGround(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, token[:10])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	res, err := g.client().Do(newRequest(t, http.MethodGet, "/", nil))
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil || strings.Contains(string(body), token[:7]) {
		t.Errorf("%q %v", body, err)
	}
}

func TestAHostThatNeverAnswersIsLeftByItsGuest(t *testing.T) {
	g := newGround(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	guest, here := net.Pipe()
	defer guest.Close()
	over := make(chan struct{})
	go func() { g.broker.Serve(ctx, here, Target{Host: api}); close(over) }()
	cancel()
	select {
	case <-over:
	case <-time.After(patience):
		t.Error("it goes on")
	}
}
