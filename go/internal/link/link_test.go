package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// wire is a virtio-serial port as the guest sees it: one stream for ever, whose host comes and goes. When the host
// goes, the tail of what was under way is lost from any byte on, in both directions.
type wire struct {
	mu       sync.Mutex
	changed  *sync.Cond
	toGuest  []byte
	toHost   []byte
	host     *hostEnd
	random   *rand.Rand
	capacity int
}

func newWire(seed uint64) *wire {
	w := &wire{random: rand.New(rand.NewPCG(seed, 1)), capacity: 32 << 10}
	w.changed = sync.NewCond(&w.mu)
	return w
}

type hostEnd struct{ wire *wire }

func (w *wire) connect() *hostEnd {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.host = &hostEnd{w}
	w.changed.Broadcast()
	return w.host
}

// Read and Write of wire are the guest's end.
func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.toGuest) == 0 {
		w.changed.Wait()
	}
	// In pieces of any size, as a port gives them.
	n := copy(p[:min(len(p), 1+w.random.IntN(4096))], w.toGuest)
	w.toGuest = w.toGuest[n:]
	w.changed.Broadcast()
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := 0
	for sent < len(p) {
		for w.host == nil || len(w.toHost) >= w.capacity {
			w.changed.Wait()
		}
		n := min(len(p)-sent, w.capacity-len(w.toHost))
		w.toHost = append(w.toHost, p[sent:sent+n]...)
		sent += n
		w.changed.Broadcast()
	}
	return sent, nil
}

func (h *hostEnd) Read(p []byte) (int, error) {
	w := h.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.toHost) == 0 && w.host == h {
		w.changed.Wait()
	}
	if w.host != h {
		return 0, io.EOF
	}
	n := copy(p, w.toHost)
	w.toHost = w.toHost[n:]
	w.changed.Broadcast()
	return n, nil
}

func (h *hostEnd) Write(p []byte) (int, error) {
	w := h.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := 0
	for sent < len(p) {
		for w.host == h && len(w.toGuest) >= w.capacity {
			w.changed.Wait()
		}
		if w.host != h {
			return sent, io.ErrClosedPipe
		}
		n := min(len(p)-sent, w.capacity-len(w.toGuest))
		w.toGuest = append(w.toGuest, p[sent:sent+n]...)
		sent += n
		w.changed.Broadcast()
	}
	return sent, nil
}

func (h *hostEnd) Close() error {
	w := h.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.host != h {
		return nil
	}
	w.host = nil
	w.toGuest = w.toGuest[:w.random.IntN(len(w.toGuest)+1)]
	w.toHost = w.toHost[:w.random.IntN(len(w.toHost)+1)]
	w.changed.Broadcast()
	return nil
}

func echo(session *Session) {
	defer session.Close()
	_, _ = io.Copy(session, session)
}

// exchange sends size random bytes and reads them back, until the session ends; what came back must be what was sent.
func exchange(session *Session, random *rand.Rand, size int) (int, error) {
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(random.Uint32())
		if random.IntN(4) == 0 {
			sent[i] = fillerByte
		}
	}
	go func() { _, _ = session.Write(sent) }()
	got := make([]byte, size)
	n, err := io.ReadFull(session, got)
	if !bytes.Equal(got[:n], sent[:n]) {
		return n, errors.New("other bytes came back than were sent")
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	return n, nil
}

func TestSessionsSurviveCuts(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWire(seed)
			go func() { _ = Serve(w, echo) }()
			random := rand.New(rand.NewPCG(seed, 2))
			for range 60 {
				host := w.connect()
				drop := time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, func() { _ = host.Close() })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				session, err := Dial(ctx, host)
				if errors.Is(err, context.DeadlineExceeded) {
					t.Fatal("no session within the deadline")
				}
				if err == nil {
					if _, err := exchange(session, random, 1+random.IntN(300_000)); err != nil {
						t.Fatal(err)
					}
				}
				cancel()
				drop.Stop()
				_ = host.Close()
			}
			session, err := Dial(t.Context(), w.connect())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := exchange(session, random, 1_000_000); err != nil || n != 1_000_000 {
				t.Fatalf("whole session: %d bytes, %v", n, err)
			}
		})
	}
}

func TestRepeatedHello(t *testing.T) {
	w := newWire(1)
	host := w.connect()
	type opened struct {
		session *Session
		err     error
	}
	done := make(chan opened, 1)
	nonce := []byte("0123456789abcdef")
	go func() {
		// Says HELLO every millisecond to a guest that is not there yet.
		session, err := open(t.Context(), host, 42, nonce, time.Millisecond)
		done <- opened{session, err}
	}()
	time.Sleep(50 * time.Millisecond)
	go func() { _ = Serve(w, echo) }()
	result := <-done
	if result.err != nil {
		t.Fatal(result.err)
	}
	random := rand.New(rand.NewPCG(1, 3))
	if n, err := exchange(result.session, random, 500_000); err != nil || n != 500_000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

func TestByeEndsASession(t *testing.T) {
	w := newWire(2)
	ended := make(chan error, 1)
	go func() {
		_ = Serve(w, func(session *Session) {
			_, err := io.Copy(session, session)
			ended <- err
			_ = session.Close()
		})
	}()
	session, err := Dial(t.Context(), w.connect())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(session, rand.New(rand.NewPCG(2, 2)), 10); err != nil {
		t.Fatal(err)
	}
	_ = session.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the guest's handler never saw the end")
	}
}

func TestNewHelloEndsTheOldSession(t *testing.T) {
	w := newWire(3)
	ended := make(chan error, 2)
	go func() {
		_ = Serve(w, func(session *Session) {
			buffer := make([]byte, 1)
			_, _ = session.Read(buffer)
			_, err := session.Read(buffer)
			if !errors.Is(err, io.EOF) {
				ended <- fmt.Errorf("reader got %v", err)
			}
			if _, err = session.Write([]byte("x")); !errors.Is(err, ErrEnded) {
				ended <- fmt.Errorf("writer got %v", err)
			}
			ended <- nil
		})
	}()
	first := w.connect()
	session, err := Dial(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	_ = first.Close()
	if _, err := Dial(t.Context(), w.connect()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// FuzzReader feeds the reader anything at all, then what a host sends: it must find the frame behind the filler, and
// with it nothing that the garbage held.
func FuzzReader(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3})
	f.Add([]byte{0, 0, 0, 1, 0, 0})
	f.Add(append(appendFrame(nil, 7, false, []byte("whole")), 0, 0, 0, 7, 0, 1, 0))
	f.Add(bytes.Repeat([]byte{0xFF}, 100))
	f.Fuzz(func(t *testing.T, garbage []byte) {
		payload := []byte("the one that matters")
		stream := append(append(append([]byte{}, garbage...), filler...), appendFrame(nil, 99, true, payload)...)
		reader := NewReader(bytes.NewReader(stream))
		var last Frame
		for {
			frame, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(frame.Payload) > MaxPayload {
				t.Fatalf("a payload of %d bytes", len(frame.Payload))
			}
			last = Frame{frame.Session, frame.Control, bytes.Clone(frame.Payload)}
		}
		if last.Session != 99 || !last.Control || !bytes.Equal(last.Payload, payload) {
			t.Fatalf("the frame behind the filler was not found: %+v", last)
		}
	})
}

// A frame cut at any byte must vanish, and the next one be found.
func TestEveryCut(t *testing.T) {
	for _, size := range []int{1, 255, 65535, MaxPayload} {
		payload := bytes.Repeat([]byte{0}, size)
		whole := appendFrame(nil, 5, false, payload)
		next := appendFrame(nil, 6, false, []byte("next"))
		for cut := 0; cut < len(whole); cut += 1 + len(whole)/200 {
			stream := append(append(append([]byte{}, whole[:cut]...), filler...), next...)
			frame, err := NewReader(bytes.NewReader(stream)).Next()
			if err != nil || frame.Session != 6 || string(frame.Payload) != "next" {
				t.Fatalf("size %d, cut at %d: %v, %v", size, cut, frame.Session, err)
			}
		}
	}
}

func TestFrameLayout(t *testing.T) {
	frame := appendFrame(nil, 0x01020304, true, []byte{9})
	if binary.BigEndian.Uint32(frame) != 0x01020304 || binary.BigEndian.Uint32(frame[4:]) != 1<<31|1 ||
		!bytes.Equal(frame[8:], []byte{9, 0}) {
		t.Fatalf("% x", frame)
	}
}
