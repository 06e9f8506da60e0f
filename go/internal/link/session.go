// This file owns a session: the byte stream that runs in its frames, as a net.Conn. The guest's and the host's end
// are alike once a session is open.
package link

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// inboundLimit is how many received bytes a session holds before its port is read no further.
	inboundLimit = 256 << 10
	// minRoom is the least that is kept for received bytes: sessions that carry little are the most.
	minRoom = 4 << 10
	// outboundLimit is how many bytes a session holds that are to be sent before a writer waits.
	outboundLimit = 256 << 10
)

// ErrEnded is what a writer gets whose session has ended.
var ErrEnded = errors.New("link: the session has ended")

// port is the sending half of the byte stream; one frame is written at a time.
type port struct {
	mu     sync.Mutex
	out    io.Writer
	buffer []byte
}

// Session is one connection over a port. It has no deadlines of its own: who serves it ends it with Close.
type Session struct {
	id   uint32
	port *port
	// ended closes when the session is over in every direction.
	ended chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	inbound []byte
	// room is the memory of inbound, from its first byte on: what is received passes through it and makes no garbage.
	room []byte
	// outbound waits to be sent: many small writes make few frames, each of which costs a turn of the machine.
	outbound []byte
	// finished: nothing more will come. closing: nothing more will be written. over: the session is gone and what
	// was received with it.
	finished, closing, over bool
}

var _ net.Conn = (*Session)(nil)

func newSession(id uint32, p *port) *Session {
	s := &Session{id: id, port: p, ended: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	go s.flush()
	return s
}

// Read returns received bytes, and io.EOF when the session has ended.
func (s *Session) Read(buffer []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.inbound) == 0 {
		if s.finished || s.over {
			return 0, io.EOF
		}
		s.changed.Wait()
	}
	n := copy(buffer, s.inbound)
	s.inbound = s.inbound[n:]
	if len(s.inbound) == 0 {
		s.inbound = s.room[:0]
	}
	s.changed.Broadcast()
	return n, nil
}

// Write takes data to be sent. It returns ErrEnded when the session has ended; what was taken and not sent by then is
// lost, as what is on its way is.
func (s *Session) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for taken := 0; ; {
		for len(s.outbound) >= outboundLimit && !s.closing && !s.over {
			s.changed.Wait()
		}
		if s.closing || s.over {
			return taken, ErrEnded
		}
		piece := data[taken:min(taken+outboundLimit-len(s.outbound), len(data))]
		s.outbound = append(s.outbound, piece...)
		s.changed.Broadcast()
		if taken += len(piece); taken == len(data) {
			return taken, nil
		}
	}
}

// flush sends what was written, in frames as long as may be, and at last BYE. It returns when the session is over.
func (s *Session) flush() {
	defer s.end()
	var frame []byte
	for {
		s.mu.Lock()
		for len(s.outbound) == 0 && !s.closing && !s.over {
			s.changed.Wait()
		}
		frame = append(frame[:0], s.outbound[:min(MaxPayload, len(s.outbound))]...)
		s.outbound = s.outbound[:copy(s.outbound, s.outbound[len(frame):])]
		s.changed.Broadcast()
		s.mu.Unlock()
		if len(frame) == 0 {
			// A port that fails has told its reader.
			_ = s.send(true, []byte{controlBye})
			return
		}
		if s.send(false, frame) != nil {
			return
		}
	}
}

func (s *Session) send(control bool, payload []byte) error {
	s.port.mu.Lock()
	defer s.port.mu.Unlock()
	if s.isOver() {
		return ErrEnded
	}
	s.port.buffer = appendFrame(s.port.buffer[:0], s.id, control, payload)
	_, err := s.port.out.Write(s.port.buffer)
	return err
}

// Close ends the session when what was written is sent, and tells the other side. It does not wait for the port.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing, s.finished = true, true
	s.changed.Broadcast()
	return nil
}

// deliver takes a received payload. It blocks while the session holds as much as it may.
func (s *Session) deliver(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.inbound) >= inboundLimit && !s.finished && !s.over {
		s.changed.Wait()
	}
	if s.finished || s.over {
		return
	}
	if len(payload) > cap(s.inbound)-len(s.inbound) {
		// What is still to be read moves to the beginning.
		if need := len(s.inbound) + len(payload); need > len(s.room) {
			grown := make([]byte, min(max(2*need, minRoom), inboundLimit+MaxPayload))
			s.inbound = grown[:copy(grown, s.inbound)]
			s.room = grown
		}
		s.inbound = s.room[:copy(s.room, s.inbound)]
	}
	s.inbound = append(s.inbound, payload...)
	s.changed.Broadcast()
}

// finish says that nothing more will be received; what was is still read.
func (s *Session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = true
	s.changed.Broadcast()
}

// end is the end of the session at once: the reader gets an end of file, the writer an error.
func (s *Session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	s.inbound, s.outbound, s.room = nil, nil, nil
	close(s.ended)
	s.changed.Broadcast()
}

func (s *Session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// Address is the net.Addr of a session.
type Address struct{}

// Network returns "link".
func (Address) Network() string { return "link" }

func (Address) String() string { return "port" }

// LocalAddr returns an Address.
func (s *Session) LocalAddr() net.Addr { return Address{} }

// RemoteAddr returns an Address.
func (s *Session) RemoteAddr() net.Addr { return Address{} }

// SetDeadline does nothing.
func (s *Session) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (s *Session) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (s *Session) SetWriteDeadline(time.Time) error { return nil }
