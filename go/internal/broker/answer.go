// This file owns an answer on its way to the guest: nothing of it that is a value passes.
package broker

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"strings"
	"sync"
)

// answer takes values out of an answer. Errors: *upstreamError for one that cannot be looked into.
func answer(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	if res.StatusCode == http.StatusSwitchingProtocols {
		return &upstreamError{CodeUnreachable, "the host switches to a protocol that was not asked for"}
	}
	x.redactHeader(res.Header)
	x.redactHeader(res.Trailer)
	// Another way to the host, and parts of an answer, are not to be asked for.
	for _, name := range []string{"Alt-Svc", "Accept-Ranges"} {
		res.Header.Del(name)
	}
	if res.Body == nil || res.Body == http.NoBody || res.Request.Method == http.MethodHead {
		return nil
	}
	source, err := decoded(res)
	if err != nil {
		return err
	}
	res.Header.Del("Content-Length")
	res.ContentLength = -1
	done := make(chan struct{})
	res.Body = &redactedBody{Reader: x.state.redactor.Reader(source, done), res: res, of: x, source: res.Body, done: done}
	return nil
}

// redactHeader takes values out of headers. A name in which one stands goes: its letters may be others than the value's.
func (x *exchange) redactHeader(header http.Header) {
	for name, values := range header {
		for _, one := range x.state.secrets {
			if strings.Contains(strings.ToLower(name), strings.ToLower(one.value)) {
				delete(header, name)
			}
		}
		for i, value := range values {
			values[i] = x.state.redactor.Text(value)
		}
	}
}

// redactedBody is a body without values, whose trailers have none either.
type redactedBody struct {
	io.Reader
	res    *http.Response
	of     *exchange
	source io.Closer
	done   chan struct{}
	once   sync.Once
}

// Read is io.Reader's.
func (b *redactedBody) Read(into []byte) (int, error) {
	count, err := b.Reader.Read(into)
	if err == io.EOF {
		b.of.redactHeader(b.res.Trailer)
	}
	return count, err
}

// Close is io.Closer's.
func (b *redactedBody) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.source.Close()
}

// decoded is a body as it is without its encoding, which nobody asked for. Errors: *upstreamError for one that is unknown.
func decoded(res *http.Response) (io.Reader, error) {
	// What is opened late is this one, and not what takes its place.
	body := res.Body
	encodings := strings.ToLower(strings.Join(res.Header.Values("Content-Encoding"), ","))
	switch strings.TrimSpace(encodings) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		res.Header.Del("Content-Encoding")
		return &late{open: func() (io.Reader, error) { return gzip.NewReader(body) }}, nil
	case "deflate":
		res.Header.Del("Content-Encoding")
		return &late{open: func() (io.Reader, error) { return inflate(body) }}, nil
	}
	return nil, &upstreamError{CodeEncoded, "the host answers in an encoding that was not asked for and cannot be looked into"}
}

// inflate reads what servers call deflate: with zlib's head, as it should be, or without.
func inflate(in io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(in)
	head, err := buffered.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(buffered)
	}
	return flate.NewReader(buffered), nil
}

// late is a reader that is opened when it is first read: opening it reads.
type late struct {
	open func() (io.Reader, error)
	in   io.Reader
}

// Read is io.Reader's.
func (l *late) Read(into []byte) (int, error) {
	if l.in == nil {
		in, err := l.open()
		if err != nil {
			return 0, err
		}
		l.in = in
	}
	return l.in.Read(into)
}
