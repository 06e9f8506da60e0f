// This file owns the guest's end of a port: it answers HELLO and serves one session after another.
package link

import (
	"errors"
	"io"
)

// ErrDisconnected is returned by the Read of a port whose host has been gone for a while. The session ends, the port
// does not.
var ErrDisconnected = errors.New("link: no host is connected")

// Serve runs the guest's end of a port until reading it fails, and returns that error. handle is called in its own
// goroutine for each session, from the session's first byte on: so a HELLO that is answered twice finds nothing sent
// in between. A new session ends the old one.
func Serve(stream io.ReadWriter, handle func(*Session)) error {
	out := &port{out: stream}
	reader := NewReader(stream)
	var current *Session
	served := false
	end := func() {
		if current != nil {
			current.end()
			current = nil
		}
	}
	defer end()
	for {
		frame, err := reader.Next()
		if errors.Is(err, ErrDisconnected) {
			end()
			continue
		}
		if err != nil {
			return err
		}
		if nonce, ok := helloNonce(frame); ok {
			if current != nil && current.id == frame.Session && (served || current.isOver()) {
				continue
			}
			if current == nil || current.id != frame.Session {
				end()
				current, served = newSession(frame.Session, out), false
			}
			if err := out.answer(frame.Session, nonce); err != nil {
				return err
			}
			continue
		}
		if current == nil || frame.Session != current.id {
			continue
		}
		if frame.Control {
			if len(frame.Payload) == 1 && frame.Payload[0] == controlBye {
				// What was received before it is still served; the writer fails when the handler has closed.
				current.finish()
			}
			continue
		}
		if !served {
			served = true
			go handle(current)
		}
		current.deliver(frame.Payload)
	}
}

func helloNonce(frame Frame) ([]byte, bool) {
	if !frame.Control || len(frame.Payload) != 1+nonceLength || frame.Payload[0] != controlHello {
		return nil, false
	}
	return frame.Payload[1:], true
}

// answer sends what tells the host where the session's frames begin.
func (p *port) answer(session uint32, nonce []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buffer = append(p.buffer[:0], filler...)
	p.buffer = append(p.buffer, nonce...)
	p.buffer = appendFrame(p.buffer, session, true, []byte{controlReady})
	_, err := p.out.Write(p.buffer)
	return err
}
