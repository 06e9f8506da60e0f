package link

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"
)

// oneWay is a stream that gives what was put in and takes anything.
type oneWay struct{ io.Reader }

func (oneWay) Write(p []byte) (int, error) { return len(p), nil }
func (oneWay) Close() error                { return nil }

// FuzzHostReceive feeds the host's end anything a guest may say, then an answer as it should be: a guest that was
// taken over can end its own session and nothing else.
func FuzzHostReceive(f *testing.F) {
	const id = 42
	nonce := []byte("0123456789abcdef")
	ready := appendFrame(nil, id, true, []byte{controlReady})
	bye := appendFrame(nil, id, true, []byte{controlBye})
	answer := append(append(append([]byte{}, filler...), nonce...), ready...)
	f.Add([]byte{})
	f.Add(append(append([]byte{}, nonce...), ready...))
	f.Add(append(append(append([]byte{}, nonce...), ready...), bye...))
	f.Add(append(append([]byte{}, nonce...), appendFrame(nil, id, false, []byte("early"))...))
	f.Add(append(append([]byte{}, nonce...), 0, 0, 0, id, 0xFF, 0xFF, 0xFF, 0xFF))
	f.Fuzz(func(t *testing.T, garbage []byte) {
		stream := append(append(append([]byte{}, garbage...), answer...), appendFrame(nil, id, false, []byte("tail"))...)
		session := newSession(id, &port{out: io.Discard})
		opened := make(chan struct{})
		received := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(session)
			received <- all
		}()
		err := receive(NewReader(bytes.NewReader(stream)), session, nonce, opened)
		session.finish()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		select {
		case all := <-received:
			if err != nil && !bytes.HasSuffix(all, []byte("tail")) {
				t.Fatalf("what followed the answer was not received: %q", all)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the session's reader was not let go")
		}
		session.end()
		if err == nil {
			return
		}
		select {
		case <-opened:
		default:
			t.Fatal("READY was not seen")
		}
	})
}

// FuzzServe feeds the guest's end anything, then a HELLO with data: it must be served.
func FuzzServe(f *testing.F) {
	nonce := []byte("fedcba9876543210")
	hello := appendFrame(nil, 7, true, append([]byte{controlHello}, nonce...))
	f.Add([]byte{})
	f.Add(hello)
	f.Add(append(append([]byte{}, hello...), appendFrame(nil, 7, true, []byte{controlBye})...))
	f.Add(append(append([]byte{}, hello...), appendFrame(nil, 7, false, []byte("data"))...))
	f.Add(appendFrame(nil, 9, true, []byte{controlHello}))
	f.Fuzz(func(t *testing.T, garbage []byte) {
		// The session number of the last HELLO is one that the garbage does not have: a host draws it at random.
		const last = 0x51C0FFEE
		if bytes.Contains(garbage, []byte{0x51, 0xC0, 0xFF, 0xEE}) {
			t.Skip()
		}
		stream := append(append([]byte{}, garbage...), filler...)
		stream = append(stream, appendFrame(nil, last, true, append([]byte{controlHello}, nonce...))...)
		stream = append(stream, appendFrame(nil, last, false, []byte("served"))...)
		stream = append(stream, appendFrame(nil, last, true, []byte{controlBye})...)
		served := make(chan string, 64)
		gate, open := io.Pipe()
		input := io.MultiReader(bytes.NewReader(stream), gate)
		done := make(chan error, 1)
		go func() {
			done <- Serve(oneWay{input}, func(session *Session) {
				text, _ := io.ReadAll(session)
				if session.id == last {
					served <- string(text)
				}
				_ = session.Close()
			})
		}()
		select {
		case text := <-served:
			if text != "served" {
				t.Fatalf("served %q", text)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the session behind the garbage was not served")
		}
		_ = open.Close()
		if err := <-done; !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}
