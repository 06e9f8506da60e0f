// This file owns the host's end of a port: it opens a session on a connection to the port.
package link

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// helloInterval is how long the host waits for READY before it says HELLO again.
const helloInterval = time.Second

// Dial opens a session on stream, a fresh connection to a port. The stream is closed when ctx ends before the session
// is open, and when the session ends.
func Dial(ctx context.Context, stream io.ReadWriteCloser) (*Session, error) {
	var seed [4 + nonceLength]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("link: drawing a session number: %w", err)
	}
	if seed[0] == fillerByte {
		seed[0] = 0
	}
	// Behind filler the nonce's first byte must be told from filler.
	seed[4] &= 0x7F
	return open(ctx, stream, binary.BigEndian.Uint32(seed[:4]), seed[4:], helloInterval)
}

func open(ctx context.Context, stream io.ReadWriteCloser, id uint32, nonce []byte, interval time.Duration) (*Session, error) {
	session := newSession(id, &port{out: stream})
	ready := make(chan struct{})
	failed := make(chan error, 2)
	go func() {
		failed <- receive(NewReader(stream), session, nonce, ready)
		session.finish()
		session.end()
		_ = stream.Close()
	}()
	hello := append(append([]byte{}, filler...), appendFrame(nil, id, true, append([]byte{controlHello}, nonce...))...)
	// Written beside the wait: a port that takes nothing must not hold up the deadline.
	again := make(chan struct{}, 1)
	again <- struct{}{}
	go func() {
		for range again {
			session.port.mu.Lock()
			_, err := stream.Write(hello)
			session.port.mu.Unlock()
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	defer close(again)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ready:
			return session, nil
		case err := <-failed:
			_ = stream.Close()
			return nil, fmt.Errorf("link: opening a session: %w", err)
		case <-ctx.Done():
			_ = stream.Close()
			return nil, ctx.Err()
		case <-ticker.C:
			select {
			case again <- struct{}{}:
			default:
			}
		}
	}
}

// receive reads the connection until it ends. Filler between frames means that the guest answers a repeated HELLO:
// the nonce and another READY come next.
func receive(reader *Reader, session *Session, nonce []byte, ready chan<- struct{}) error {
	opened := false
	for {
		if err := reader.findNonce(nonce); err != nil {
			return err
		}
		for {
			frame, err := reader.next()
			if errors.Is(err, errCut) {
				break
			}
			if err != nil {
				return err
			}
			if frame.Session != session.id {
				continue
			}
			if !frame.Control {
				session.deliver(frame.Payload)
				continue
			}
			if len(frame.Payload) != 1 {
				continue
			}
			switch frame.Payload[0] {
			case controlReady:
				if !opened {
					opened = true
					close(ready)
				}
			case controlBye:
				return nil
			}
		}
	}
}
