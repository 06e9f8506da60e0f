// Package link is the frame layer of virtio-serial, both ends: it cuts a byte stream that may lose its tail at any
// byte into frames, and the frames into sessions. proto/link.md is the specification. Nothing here draws random
// numbers on the guest's side.
//
// This file owns the frame: its layout, how one is written and how a reader finds the next one after a cut.
package link

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

const (
	// MaxPayload is the longest payload of a frame, bytes.
	MaxPayload = 65536

	headerLength = 8
	fillerLength = 65560
	fillerByte   = 0xFF
	endByte      = 0x00
	controlBit   = 1 << 31
	nonceLength  = 16

	controlHello = 0x01
	controlReady = 0x02
	controlBye   = 0x03
)

// filler is longer than the longest frame, so whatever a reader was in the middle of ends inside it.
var filler = bytes.Repeat([]byte{fillerByte}, fillerLength)

// errCut says that bytes were dropped because the frame they belonged to was cut, or that filler was seen.
var errCut = errors.New("link: a frame was cut")

// Frame is one frame as it was read.
type Frame struct {
	Session uint32
	Control bool
	// Payload is valid until the next read.
	Payload []byte
}

// appendFrame appends one frame to dst. The payload has at most MaxPayload bytes.
func appendFrame(dst []byte, session uint32, control bool, payload []byte) []byte {
	length := uint32(len(payload))
	if control {
		length |= controlBit
	}
	dst = binary.BigEndian.AppendUint32(dst, session)
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = append(dst, payload...)
	return append(dst, endByte)
}

// Reader reads frames from a stream and finds its place again after a cut.
type Reader struct {
	in      *bufio.Reader
	payload []byte
}

// NewReader returns a Reader of in. Its buffer is larger than any frame.
func NewReader(in io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, MaxPayload), payload: make([]byte, MaxPayload+1)}
}

// Next returns the next whole frame; cut frames and filler are skipped. Errors are those of the stream. After an
// error the reader is at the start of a frame again, as if what it held had been cut.
func (r *Reader) Next() (Frame, error) {
	for {
		frame, err := r.next()
		if !errors.Is(err, errCut) {
			return frame, err
		}
	}
}

// next is Next, but stops with errCut at a cut frame or at filler, and is then before the first byte that is not filler.
func (r *Reader) next() (Frame, error) {
	var header [headerLength]byte
	first, err := r.in.ReadByte()
	if err != nil {
		return Frame{}, err
	}
	if first == fillerByte {
		return Frame{}, r.skipFiller()
	}
	header[0] = first
	if _, err := io.ReadFull(r.in, header[1:]); err != nil {
		return Frame{}, wholeError(err)
	}
	length := binary.BigEndian.Uint32(header[4:])
	control := length&controlBit != 0
	length &^= controlBit
	if length > MaxPayload {
		return Frame{}, r.skipFiller()
	}
	body := r.payload[:length+1]
	if _, err := io.ReadFull(r.in, body); err != nil {
		return Frame{}, wholeError(err)
	}
	if body[length] != endByte {
		return Frame{}, r.skipFiller()
	}
	return Frame{Session: binary.BigEndian.Uint32(header[:4]), Control: control, Payload: body[:length]}, nil
}

// skipFiller reads up to the first byte that is not filler and returns errCut, or the stream's error.
func (r *Reader) skipFiller() error {
	for {
		b, err := r.in.ReadByte()
		if err != nil {
			return err
		}
		if b != fillerByte {
			if err := r.in.UnreadByte(); err != nil {
				return err
			}
			return errCut
		}
	}
}

// findNonce reads and drops everything up to and including nonce.
func (r *Reader) findNonce(nonce []byte) error {
	window := make([]byte, 0, 2*MaxPayload)
	for {
		b, err := r.in.ReadByte()
		if err != nil {
			return err
		}
		if len(window) == cap(window) {
			window = append(window[:0], window[len(window)-len(nonce):]...)
		}
		window = append(window, b)
		if bytes.HasSuffix(window, nonce) {
			return nil
		}
	}
}

// wholeError says that a stream which ends inside a frame has ended: the piece of a frame is of no use to anyone.
func wholeError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}
