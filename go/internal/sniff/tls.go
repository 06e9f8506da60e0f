// Package sniff reads the first words of a connection: the name that a TLS ClientHello or the head of an HTTP request
// gives. What it reads comes from a guest and may be anything.
//
// This file owns TLS.
package sniff

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	recordHandshake  = 22
	handshakeClient  = 1
	recordHeader     = 5
	maxRecord        = 16384 + 256
	maxHello         = 64 << 10
	extensionName    = 0
	extensionHidden  = 0xfe0d
	nameKindHost     = 0
	alertRecord      = 21
	alertFatal       = 2
	alertDenied      = 49
	handshakeHeader  = 4
	helloFixed       = 2 + 32
	recordsOfOneHead = 64
)

// Errors of a ClientHello.
var (
	// ErrNotTLS: it is none, or one that is not well made.
	ErrNotTLS = errors.New("not a TLS ClientHello")
	// ErrNoName: it has no server name.
	ErrNoName = errors.New("the TLS ClientHello names no server")
	// ErrHidden: the name is encrypted, so that nobody can tell what is asked for.
	ErrHidden = errors.New("the TLS ClientHello hides its server name (ECH)")
)

// Denied is what a TLS client is sent in the place of an answer: the alert access_denied.
var Denied = []byte{alertRecord, 3, 1, 0, 2, alertFatal, alertDenied}

// ServerName reads a ClientHello and returns the name in it and the bytes that were read, whole or not. Errors: the
// three above, those of in.
func ServerName(in io.Reader) (name string, read []byte, err error) {
	var message []byte
	for range recordsOfOneHead {
		header := make([]byte, recordHeader)
		if read, err = more(in, read, header); err != nil {
			return "", read, err
		}
		length := int(binary.BigEndian.Uint16(header[3:]))
		if header[0] != recordHandshake || header[1] != 3 || length == 0 || length > maxRecord {
			return "", read, ErrNotTLS
		}
		body := make([]byte, length)
		if read, err = more(in, read, body); err != nil {
			return "", read, err
		}
		message = append(message, body...)
		if message[0] != handshakeClient {
			return "", read, ErrNotTLS
		}
		if len(message) < handshakeHeader {
			continue
		}
		whole := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
		if whole > maxHello {
			return "", read, ErrNotTLS
		}
		if len(message) >= handshakeHeader+whole {
			name, err = nameOf(message[handshakeHeader : handshakeHeader+whole])
			return name, read, err
		}
	}
	return "", read, ErrNotTLS
}

func more(in io.Reader, read, buffer []byte) ([]byte, error) {
	n, err := io.ReadFull(in, buffer)
	return append(read, buffer[:n]...), err
}

// nameOf finds the name in a hello. Two extensions of one kind, or two names, are refused: servers might take the other.
func nameOf(hello []byte) (string, error) {
	rest := cursor(hello)
	extensions := cursor(nil)
	ok := rest.skip(helloFixed) && rest.skipVector(1) && rest.skipVector(2) && rest.skipVector(1)
	if !ok {
		return "", ErrNotTLS
	}
	if len(rest) == 0 {
		return "", ErrNoName
	}
	if extensions, ok = rest.vector(2); !ok || len(rest) != 0 {
		return "", ErrNotTLS
	}
	name, seen := "", false
	for len(extensions) > 0 {
		kind, ok := extensions.number(2)
		if !ok {
			return "", ErrNotTLS
		}
		body, ok := extensions.vector(2)
		if !ok {
			return "", ErrNotTLS
		}
		switch kind {
		case extensionHidden:
			return "", ErrHidden
		case extensionName:
			list, ok := body.vector(2)
			if !ok || seen || len(body) != 0 {
				return "", ErrNotTLS
			}
			seen = true
			what, ok := list.number(1)
			if !ok || what != nameKindHost {
				return "", ErrNotTLS
			}
			host, ok := list.vector(2)
			if !ok || len(list) != 0 || len(host) == 0 {
				return "", ErrNotTLS
			}
			name = string(host)
		}
	}
	if !seen {
		return "", ErrNoName
	}
	return name, nil
}

// cursor is what is still to be read of a message.
type cursor []byte

func (c *cursor) number(size int) (int, bool) {
	if len(*c) < size {
		return 0, false
	}
	value := 0
	for _, b := range (*c)[:size] {
		value = value<<8 | int(b)
	}
	*c = (*c)[size:]
	return value, true
}

func (c *cursor) skip(count int) bool {
	if len(*c) < count {
		return false
	}
	*c = (*c)[count:]
	return true
}

// vector reads a length of so many bytes and what it measures.
func (c *cursor) vector(size int) (cursor, bool) {
	length, ok := c.number(size)
	if !ok || len(*c) < length {
		return nil, false
	}
	body := (*c)[:length]
	*c = (*c)[length:]
	return body, true
}

func (c *cursor) skipVector(size int) bool {
	_, ok := c.vector(size)
	return ok
}
