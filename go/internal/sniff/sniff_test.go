package sniff

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// hello is the ClientHello of Go's own client.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		_ = tls.Client(there, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
	}()
	_ = here.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, read, err := ServerName(here)
	if err != nil && !errors.Is(err, ErrNoName) {
		t.Fatal(err)
	}
	_ = here.Close()
	return read
}

func TestTheNameInAClientHello(t *testing.T) {
	whole := hello(t, "www.example.org")
	name, read, err := ServerName(bytes.NewReader(append(append([]byte{}, whole...), "rest"...)))
	if err != nil || name != "www.example.org" || !bytes.Equal(read, whole) {
		t.Fatal(name, err)
	}
	// The same in records of a hundred bytes.
	var cut []byte
	for body := whole[recordHeader:]; len(body) > 0; {
		n := min(100, len(body))
		cut = append(append(cut, recordHandshake, 3, 1, 0, byte(n)), body[:n]...)
		body = body[n:]
	}
	if name, _, err := ServerName(bytes.NewReader(cut)); name != "www.example.org" || err != nil {
		t.Fatal(name, err)
	}
	if _, _, err := ServerName(bytes.NewReader(hello(t, ""))); !errors.Is(err, ErrNoName) {
		t.Fatal(err)
	}
	if _, _, err := ServerName(bytes.NewReader(whole[:40])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if _, _, err := ServerName(strings.NewReader("GET / HTTP/1.1\r\n")); !errors.Is(err, ErrNotTLS) {
		t.Fatal(err)
	}
}

func TestAHiddenNameIsRefused(t *testing.T) {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0, 0, 4, 0xfe, 0x0d, 0, 0)
	if _, err := nameOf(body); !errors.Is(err, ErrHidden) {
		t.Fatal(err)
	}
}

func TestTheHostOfARequest(t *testing.T) {
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n":                                             "a.example",
		"GET / HTTP/1.1\r\nhost:  a.example:8080 \r\nX: y\r\n\r\n":                              "a.example",
		"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n":                            "a.example",
		"GET / HTTP/1.1\r\nHost: [2606::1]:80\r\n\r\n":                                          "2606::1",
		"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n":                             "a.example",
		"GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n":                            "",
		"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n":                          "",
		"GET / HTTP/1.1\r\n\r\n":                                                                "",
		"GET / HTTP/1.1\nHost: a.example\n\n":                                                   "",
		"GET / HTTP/1.1\r\nHost: a.example\r\n X: folded\r\n\r\n":                               "",
		"GET / HTTP/1.1\r\nHost : a.example\r\n\r\n":                                            "",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                      "",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": "",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n":                              "",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":                "",
		"GET http://a.example@b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n":                   "",
	} {
		request, err := ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if want == "" {
			if !errors.Is(err, ErrNotHTTP) {
				t.Errorf("%q: %v %+v", text, err, request)
			}
			continue
		}
		if err != nil || request.Host != want || string(request.Raw) != text {
			t.Errorf("%q: %v %+v", text, err, request)
		}
	}
}

func TestABodyIsFollowedToItsEnd(t *testing.T) {
	head := "POST / HTTP/1.1\r\nHost: a\r\n"
	for _, text := range []string{
		"Content-Length: 5\r\n\r\nhello", "\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\n",
	} {
		in := bufio.NewReader(strings.NewReader(head + text + "NEXT"))
		request, err := ReadRequest(in)
		if err != nil {
			t.Fatal(text, err)
		}
		var out bytes.Buffer
		if err := request.Body(&out, in); err != nil {
			t.Fatal(text, err)
		}
		rest, _ := io.ReadAll(in)
		if string(rest) != "NEXT" || string(request.Raw)+out.String() != head+text {
			t.Errorf("%q: %q, rest %q", text, out.String(), rest)
		}
	}
	for _, text := range []string{"zz\r\n", "5\r\nhelloX\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "5\nhello"} {
		in := bufio.NewReader(strings.NewReader(head + "Transfer-Encoding: chunked\r\n\r\n" + text))
		request, err := ReadRequest(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := request.Body(io.Discard, in); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzServerName(f *testing.F) {
	f.Add(hello(f, "www.example.org"))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		name, read, err := ServerName(bytes.NewReader(data))
		if !bytes.HasPrefix(data, read) {
			t.Fatal("what was read is not what came")
		}
		if err == nil && name == "" {
			t.Fatal("no name and no error")
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReader(bytes.NewReader(data))
		request, err := ReadRequest(in)
		if err != nil {
			return
		}
		var out bytes.Buffer
		bodyErr := request.Body(&out, in)
		if request.Host == "" || !bytes.HasPrefix(data, request.Raw) {
			t.Fatalf("%+v", request)
		}
		if bodyErr == nil && !bytes.HasPrefix(data[len(request.Raw):], out.Bytes()) {
			t.Fatal("the body is not what came")
		}
	})
}
