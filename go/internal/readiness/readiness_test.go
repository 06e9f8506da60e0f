package readiness

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// within is a context of a test that must not be needed to its end.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func refused(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Fatalf("%v, not %q", err, words)
	}
}

func TestFile(t *testing.T) {
	ctx := within(t, 10*time.Second)
	directory := t.TempDir()
	path := filepath.Join(directory, "ready")
	refused(t, File(ctx, path), "there is no "+path)
	if err := os.Symlink(path, filepath.Join(directory, "link")); err != nil {
		t.Fatal(err)
	}
	refused(t, File(ctx, filepath.Join(directory, "link")), "there is no")
	// A named pipe is there, and looking at it does not open it.
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{path, filepath.Join(directory, "link"), directory} {
		if err := File(ctx, there); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, File(ctx, filepath.Join(path, "below")), "not a directory")
	refused(t, File(ctx, "/"+strings.Repeat("x", 5000)), "file name too long")
	if len(looking) != 0 {
		t.Fatalf("%d looks are left", len(looking))
	}
}

func TestFilesThatDoNotAnswerAreBounded(t *testing.T) {
	for range cap(looking) {
		looking <- struct{}{}
	}
	defer func() {
		for range cap(looking) {
			<-looking
		}
	}()
	refused(t, File(within(t, 20*time.Millisecond), "/"), "waited for")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := File(ctx, "/"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestTCP(t *testing.T) {
	ctx := within(t, 10*time.Second)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	for _, taken := range []string{address, "localhost:" + port} {
		if err := TCP(ctx, taken); err != nil {
			t.Fatal(err)
		}
	}
	listener.Close()
	refused(t, TCP(ctx, address), address+": connection refused")
	refused(t, TCP(ctx, "localhost:"+port), "connection refused")
	for _, nonsense := range []string{"", "80", ":80", "a:0", "a:65536", "a:-1", "a:b", "a:80:80"} {
		if ValidAddress(nonsense) == nil {
			t.Errorf("%q is an address", nonsense)
		}
	}
	for _, valid := range []string{"a:1", "127.0.0.1:65535", "[::1]:80"} {
		if err := ValidAddress(valid); err != nil {
			t.Error(err)
		}
	}
}

func TestHTTP(t *testing.T) {
	ctx := within(t, 10*time.Second)
	asked := 0
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		asked++
		switch request.URL.Path {
		case "/moved":
			http.Redirect(writer, request, "/missing", http.StatusFound)
		case "/missing":
			http.NotFound(writer, request)
		case "/endless":
			for request.Context().Err() == nil {
				_, _ = writer.Write(make([]byte, 64<<10))
			}
		case "/early":
			writer.WriteHeader(http.StatusEarlyHints)
			writer.WriteHeader(http.StatusNoContent)
		}
	})
	for _, server := range []*httptest.Server{httptest.NewServer(handler), httptest.NewTLSServer(handler)} {
		defer server.Close()
		asked = 0
		for _, path := range []string{"/", "/moved", "/endless", "/early", "/?a=b#c"} {
			if err := HTTP(ctx, server.URL+path); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, HTTP(ctx, server.URL+"/missing"), "/missing answered with 404")
		if asked != 6 {
			t.Fatalf("%d requests: a redirect was followed, or one was repeated", asked)
		}
	}
}

// hostile serves each connection by hand.
func hostile(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				serve(connection)
			}()
		}
	}()
	return "http://" + listener.Addr().String() + "/"
}

func TestHTTPThatIsNone(t *testing.T) {
	silent := hostile(t, func(connection net.Conn) { _, _ = connection.Read(make([]byte, 1<<20)); time.Sleep(time.Minute) })
	began := time.Now()
	refused(t, HTTP(within(t, 100*time.Millisecond), silent), "no answer in time")
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("took %v", took)
	}
	closing := hostile(t, func(net.Conn) {})
	if err := HTTP(within(t, 10*time.Second), closing); err == nil {
		t.Fatal("a closed connection is an answer")
	}
	endless := hostile(t, func(connection net.Conn) {
		_, _ = connection.Write([]byte("HTTP/1.1 200 OK\r\n"))
		for {
			if _, err := connection.Write([]byte("X-Header: and another one\r\n")); err != nil {
				return
			}
		}
	})
	if err := HTTP(within(t, 10*time.Second), endless); err == nil {
		t.Fatal("a head without an end is an answer")
	}
	early := hostile(t, func(connection net.Conn) {
		for {
			if _, err := connection.Write([]byte("HTTP/1.1 103 Early Hints\r\n\r\n")); err != nil {
				return
			}
		}
	})
	if err := HTTP(within(t, 10*time.Second), early); err == nil {
		t.Fatal("hints without an end are an answer")
	}
	garbage := hostile(t, func(connection net.Conn) { _, _ = connection.Write([]byte("SSH-2.0-x\r\n")) })
	refused(t, HTTP(within(t, 10*time.Second), garbage), "malformed HTTP")
	if err := HTTP(within(t, 10*time.Second), strings.Replace(closing, "http:", "https:", 1)); err == nil {
		t.Fatal("plain text is TLS")
	}
}

func TestURLs(t *testing.T) {
	for _, nonsense := range []string{"", "x", "ftp://a/", "http://", "http:///path", "http://a b/", "http://[::1/"} {
		if ValidURL(nonsense) == nil {
			t.Errorf("%q is a URL", nonsense)
		}
	}
	for _, valid := range []string{"http://localhost:8000/health?x=1", "https://[::1]:8443"} {
		if err := ValidURL(valid); err != nil {
			t.Error(err)
		}
	}
}

func TestReasonIsShortText(t *testing.T) {
	reason := Reason(errors.New(strings.Repeat("é\xff", 2000)))
	if !utf8.ValidString(reason) || len(reason) > reasonLimit+10 {
		t.Fatalf("%d bytes, valid: %v", len(reason), utf8.ValidString(reason))
	}
}
