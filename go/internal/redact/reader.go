// This file owns a stream that is read: its bytes come without values, and as soon as they can.
package redact

import (
	"io"
	"time"
)

const (
	readBytes = 32 << 10
	// quietAfter is how long a source says nothing before a few bytes that begin a value by chance are let through.
	quietAfter = 200 * time.Millisecond
)

// reader reads a source, in a goroutine that ends with it: whoever closes the source ends it.
type reader struct {
	stream *Stream
	came   chan piece
	taken  chan struct{}
	out    []byte
	err    error
}

type piece struct {
	data []byte
	err  error
}

// Reader returns what source gives without values. The source has to be read to its end or closed, and then done closed.
func (r *Redactor) Reader(source io.Reader, done <-chan struct{}) io.Reader {
	one := &reader{stream: r.Stream(), came: make(chan piece), taken: make(chan struct{})}
	go func() {
		buffer := make([]byte, readBytes)
		for {
			count, err := source.Read(buffer)
			select {
			case one.came <- piece{buffer[:count], err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
			// The buffer is whoever reads's until then.
			select {
			case <-one.taken:
			case <-done:
				return
			}
		}
	}()
	return one
}

// Read is io.Reader's. A value that the source's end cuts counts as one; an error of the source is its end too.
func (r *reader) Read(into []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.next()
	}
	count := copy(into, r.out)
	r.out = r.out[count:]
	return count, nil
}

func (r *reader) next() {
	var quiet <-chan time.Time
	if r.stream.Held() > 0 {
		timer := time.NewTimer(quietAfter)
		defer timer.Stop()
		quiet = timer.C
	}
	select {
	case one := <-r.came:
		r.take(one)
	case <-quiet:
		if r.out = r.stream.Quiet(); len(r.out) == 0 {
			r.take(<-r.came)
		}
	}
}

func (r *reader) take(one piece) {
	r.out = r.stream.Push(one.data)
	if one.err != nil {
		r.err = one.err
		r.out = append(r.out, r.stream.End()...)
		return
	}
	r.taken <- struct{}{}
}
