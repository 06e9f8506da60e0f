package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// seen is what a host was asked.
type seen struct {
	mutex  sync.Mutex
	header http.Header
	query  string
	body   string
}

// remember keeps the last request, and lets an answer be made.
func (s *seen) remember(then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mutex.Lock()
		s.header, s.query, s.body = r.Header.Clone(), r.URL.RawQuery, string(body)
		s.mutex.Unlock()
		if then != nil {
			then(w, r)
		}
	}
}

func TestAValueIsPutIntoARequest(t *testing.T) {
	var asked seen
	g := newGround(t, asked.remember(nil))
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	request := newRequest(t, http.MethodPost, "/?a=1&key="+placeholder+"&b;c=%zz", strings.NewReader(`{"token": "`+placeholder+`"}`))
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	request.Header.Set("X-Key", "<"+placeholder+">")
	request.Header.Set("Cookie", "a="+placeholder)
	request.Header.Set("Authorization", basic("x-access-token:"+placeholder))
	res, _ := g.do(request)
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	if asked.header.Get("X-Key") != "<"+token+">" || asked.header.Get("Cookie") != "a="+token {
		t.Error(asked.header)
	}
	if asked.header.Get("Authorization") != basic("x-access-token:"+token) || asked.header.Get("Accept-Encoding") != "identity" {
		t.Error(asked.header)
	}
	if asked.query != "a=1&key="+url.QueryEscape(token)+"&b;c=%zz" {
		t.Error(asked.query)
	}
	var body struct{ Token string }
	if err := json.Unmarshal([]byte(asked.body), &body); err != nil || body.Token != token {
		t.Error(asked.body, err)
	}
	if event := g.told(CodeUsed); event.Secret != "TOKEN" || event.Host != api || !event.Allowed || event.To.Port() != portHTTPS {
		t.Errorf("%+v", event)
	}
	g.clean("")

	form := newRequest(t, http.MethodPost, "/", strings.NewReader("key="+placeholder))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	g.do(form)
	if asked.body != "key="+url.QueryEscape(token) {
		t.Error(asked.body)
	}
	plain := newRequest(t, http.MethodPut, "/", struct{ io.Reader }{strings.NewReader("as it is: " + placeholder)})
	g.do(plain)
	if asked.body != "as it is: "+token {
		t.Error(asked.body)
	}
}

func TestALongBodyIsPassedOnAsItIs(t *testing.T) {
	var asked seen
	g := newGround(t, asked.remember(nil))
	long := strings.Repeat("x", mostBody) + placeholder
	for _, body := range []io.Reader{strings.NewReader(long), struct{ io.Reader }{strings.NewReader(long)}} {
		g.do(newRequest(t, http.MethodPost, "/", body))
		if asked.body != long {
			t.Errorf("%d bytes came", len(asked.body))
		}
	}
	g.told(CodeTooLong)
}

func TestAnEchoGivesThePlaceholderBack(t *testing.T) {
	g := newGround(t, func(w http.ResponseWriter, r *http.Request) {
		value := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("X-Echo", "it is "+value)
		w.Header().Set("Location", "https://"+other+"/?"+url.QueryEscape(value))
		w.Header().Set("Trailer", "X-After")
		w.WriteHeader(http.StatusOK)
		quoted, _ := json.Marshal(value)
		texts := []string{value, base64.StdEncoding.EncodeToString([]byte(value)), url.QueryEscape(value), url.PathEscape(value), string(quoted)}
		for before := 1; before < 3; before++ {
			texts = append(texts, base64.URLEncoding.EncodeToString([]byte("::"[:before]+value+"!")))
		}
		for _, text := range texts {
			// In pieces, each of them sent at once.
			for _, c := range []byte(text) {
				_, _ = w.Write([]byte{c})
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = io.WriteString(w, "\n")
		}
		w.Header().Set("X-After", value)
	})
	res, body := g.get("/")
	g.clean(body)
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if len(lines) != 7 {
		t.Fatalf("%q", body)
	}
	for i, line := range lines {
		if !strings.Contains(line, placeholder) {
			t.Errorf("line %d: %q", i, line)
		}
	}
	if lines[0] != placeholder || res.Header.Get("X-Echo") != "it is "+placeholder || res.Trailer.Get("X-After") != placeholder {
		t.Error(res.Header, res.Trailer, lines[0])
	}
	if res.Header.Get("Location") != "https://"+other+"/?"+placeholder {
		t.Error(res.Header)
	}
}

func TestATokenInTheNameOfAHeaderGoes(t *testing.T) {
	g := newGround(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["x-"+strings.ToUpper("abcdefgh")] = []string{"1"}
	})
	g.config.Secrets[0].Value = []byte("AbcdefgH")
	must(t, g.broker.Configure(g.config))
	if res, _ := g.get("/"); strings.Contains(strings.ToLower(fmt.Sprint(res.Header)), "abcdefgh") {
		t.Error(res.Header)
	}
}

func TestAnAnswerComesAsItIsMade(t *testing.T) {
	more := make(chan struct{})
	g := newGround(t, func(w http.ResponseWriter, _ *http.Request) {
		// Ends with what begins the value.
		_, _ = io.WriteString(w, "data: to")
		_ = http.NewResponseController(w).Flush()
		<-more
	})
	defer close(more)
	res, err := g.client().Do(newRequest(t, http.MethodGet, "/", nil))
	must(t, err)
	defer res.Body.Close()
	first := make([]byte, 8)
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "data: to" {
		t.Fatalf("%q %v", first, err)
	}
}

func TestRotation(t *testing.T) {
	var asked seen
	g := newGround(t, asked.remember(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, token+" "+r.Header.Get("Authorization"))
	}))
	g.get("/")
	const next = "another-value-9876"
	g.config.Secrets[0].Value = []byte(next)
	must(t, g.broker.Configure(g.config))
	_, body := g.get("/")
	if asked.header.Get("Authorization") != "Bearer "+next {
		t.Error(asked.header)
	}
	if body != placeholder+" Bearer "+placeholder {
		t.Errorf("%q", body)
	}
	// None at all: the host is not looked into any more.
	must(t, g.broker.Configure(Config{}))
	if g.broker.Watches(portHTTPS, []string{api}) {
		t.Error("it is looked into still")
	}
}

func TestPlainHTTPIsAskedFor(t *testing.T) {
	var asked seen
	g := newGround(t, asked.remember(nil))
	if g.broker.Watches(portHTTP, []string{api}) || !g.broker.Watches(portHTTPS, []string{other, api}) || g.broker.Watches(8443, []string{api}) {
		t.Error("wrong connections are looked into")
	}
	g.config.Secrets[0].Hosts = []string{"http://" + api}
	must(t, g.broker.Configure(g.config))
	if !g.broker.Watches(portHTTP, []string{api}) {
		t.Fatal("it is not looked into")
	}
	g.host.Close()
	g.host = newPlainHost(t, asked.remember(nil))
	g.listen(portHTTP)
	request, err := http.NewRequest(http.MethodGet, "http://"+api+"/", nil)
	must(t, err)
	request.Header.Set("Authorization", placeholder)
	g.do(request)
	if asked.header.Get("Authorization") != token {
		t.Error(asked.header)
	}
}

func TestWebSocket(t *testing.T) {
	g := newGround(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no: "+r.Header.Get("Authorization"), http.StatusForbidden)
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"b"}})
		if err != nil {
			return
		}
		conn.SetReadLimit(-1)
		ctx := r.Context()
		_ = conn.Write(ctx, websocket.MessageText, []byte("hello "+r.Header.Get("Authorization")))
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		_ = conn.Write(ctx, kind, data)
		_ = conn.Close(4000, r.Header.Get("Authorization"))
	})
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	header := http.Header{"Authorization": {placeholder}}
	options := &websocket.DialOptions{HTTPClient: g.client(), HTTPHeader: header, Subprotocols: []string{"a", "b"}}
	options.HTTPClient.Timeout = 0
	conn, _, err := websocket.Dial(ctx, "wss://"+api+"/", options)
	must(t, err)
	defer conn.CloseNow()
	if conn.Subprotocol() != "b" {
		t.Error(conn.Subprotocol())
	}
	_, data, err := conn.Read(ctx)
	if err != nil || string(data) != "hello "+placeholder {
		t.Errorf("%q %v", data, err)
	}
	large := bytes.Repeat([]byte{1, 2, 3}, 20_000)
	conn.SetReadLimit(-1)
	must(t, conn.Write(ctx, websocket.MessageBinary, large))
	if kind, data, err := conn.Read(ctx); err != nil || kind != websocket.MessageBinary || !bytes.Equal(data, large) {
		t.Error(kind, len(data), err)
	}
	_, _, err = conn.Read(ctx)
	if websocket.CloseStatus(err) != 4000 || !strings.Contains(err.Error(), placeholder) {
		t.Error(err)
	}
	_, res, err := websocket.Dial(ctx, "wss://"+api+"/no", options)
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Fatal(res, err)
	}
	refusal, _ := io.ReadAll(res.Body)
	if !strings.Contains(string(refusal), "no: "+placeholder) {
		t.Errorf("%q", refusal)
	}
}

func TestManyAtOnce(t *testing.T) {
	const count = 200
	g := newGround(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = w.Write(append(body, token...))
	})
	client := g.client()
	var all sync.WaitGroup
	for i := range count {
		all.Add(1)
		go func() {
			defer all.Done()
			request := newRequest(t, http.MethodPost, "/", strings.NewReader(fmt.Sprint(i)))
			request.Header.Set("Authorization", "Bearer "+placeholder)
			res, err := client.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK || string(body) != fmt.Sprint(i)+placeholder {
				t.Error(res.Status, string(body), err)
			}
		}()
	}
	all.Wait()
}

func TestAuthority(t *testing.T) {
	made, err := NewAuthority([]string{api})
	must(t, err)
	used, err := parseAuthority(made)
	must(t, err)
	first, err := used.leaf(api)
	must(t, err)
	if again, _ := used.leaf(api); again != first {
		t.Error("another certificate for the same host")
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificateOf(t, made.Certificate))
	if _, err := first.Leaf.Verify(x509.VerifyOptions{DNSName: api, Roots: roots}); err != nil {
		t.Error(err)
	}
	// Whoever has its key can be no other host.
	foreign, err := used.leaf(other)
	must(t, err)
	if _, err := foreign.Leaf.Verify(x509.VerifyOptions{DNSName: other, Roots: roots}); err == nil {
		t.Error("it signs for any host")
	}
	if _, err := parseAuthority(Authority{Certificate: made.Certificate}); err == nil || strings.Contains(err.Error(), "BEGIN") {
		t.Error(err)
	}
}

func TestConfigsThatAreWrong(t *testing.T) {
	g := newGround(t, nil)
	good := g.config.Secrets[0]
	for name, change := range map[string]func(*Config){
		"no authority": func(c *Config) { c.Authority = Authority{} },
		"roots":        func(c *Config) { c.Roots = "none" },
		"placeholder":  func(c *Config) { c.Secrets[0].Placeholder = "a" },
		"value":        func(c *Config) { c.Secrets[0].Value = []byte("\r\n") },
		"no hosts":     func(c *Config) { c.Secrets[0].Hosts = nil },
		"an address":   func(c *Config) { c.Secrets[0].Hosts = []string{"1.2.3.4"} },
		"a pattern":    func(c *Config) { c.Secrets[0].Hosts = []string{"*.example"} },
		"a URL":        func(c *Config) { c.Secrets[0].Hosts = []string{"https://a.example"} },
		"too many":     func(c *Config) { c.Secrets = make([]Secret, mostSecrets+1) },
	} {
		config := g.config
		config.Secrets = []Secret{good}
		change(&config)
		if err := g.broker.Configure(config); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !g.broker.Watches(portHTTPS, []string{api}) {
		t.Error("a wrong config has changed something")
	}
}

func TestAGuestThatDoesNotTrustIsTold(t *testing.T) {
	g := newGround(t, nil)
	_, err := tls.Dial("tcp", g.address, &tls.Config{ServerName: api, RootCAs: x509.NewCertPool()})
	if err == nil {
		t.Fatal("it trusts")
	}
	if event := g.told(CodeNotTrusted); event.Allowed || event.Host != api || !strings.Contains(event.Reason, "does not trust") {
		t.Errorf("%+v", event)
	}
	g.events = nil
	// One that knows the host's certificate leaves after the handshake.
	conn, err := tls.Dial("tcp", g.address, &tls.Config{ServerName: api, RootCAs: g.roots})
	must(t, err)
	conn.Close()
	if event := g.told(CodeNotTrusted); !strings.Contains(event.Reason, "asked for nothing") {
		t.Errorf("%+v", event)
	}
}

func TestACutConnectionEndsTheRequest(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	g := newGround(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})
	conn, err := tls.Dial("tcp", g.address, &tls.Config{ServerName: api, RootCAs: g.roots})
	must(t, err)
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", api)
	must(t, err)
	<-began
	_ = conn.NetConn().(*net.TCPConn).SetLinger(0)
	conn.NetConn().Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the host is asked still")
	}
}
