// This file owns the port to the host: frames of one byte kind, four bytes length (little-endian) and a body.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What the host asks for. scripts/laboratory/channel.ts has the same letters.
const (
	kindPrepare = 'P'
	kindRun     = 'R'
	kindFetch   = 'F'
	kindPing    = '?'
)

// What it is told.
const (
	kindReady    = 'r'
	kindPrepared = 'p'
	kindStdout   = 'o'
	kindStderr   = 'e'
	kindArchive  = 'a'
	// kindDone carries an exit status in decimal.
	kindDone = 'd'
	// kindFailed carries why a request could not be carried out.
	kindFailed = 'x'
	kindPong   = '!'
)

// bodyLimit bounds what the host sends at once, bytes.
const bodyLimit = 16 << 20

type frame struct {
	kind byte
	body []byte
}

type channel struct {
	port  *rawPort
	mutex sync.Mutex
}

// openChannel waits for the port until the deadline.
func openChannel(name string, deadline time.Time) (*channel, error) {
	for ; ; time.Sleep(10 * time.Millisecond) {
		device, err := findPort(name)
		if err != nil {
			return nil, err
		}
		if device != "" {
			fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", device, err)
			}
			return &channel{port: &rawPort{fd}}, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("port %s: %w", name, os.ErrDeadlineExceeded)
		}
	}
}

// findPort returns the device of the port with that name, empty when there is none yet.
func findPort(name string) (string, error) {
	paths, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(path)), nil
		}
	}
	return "", nil
}

// receive passes requests on and answers pings itself, whatever the command does. It returns when the port fails.
func (c *channel) receive(requests chan<- frame) error {
	reader := bufio.NewReader(c.port)
	for {
		var header [5]byte
		if _, err := io.ReadFull(reader, header[:]); err != nil {
			return err
		}
		length := binary.LittleEndian.Uint32(header[1:])
		if length > bodyLimit {
			return fmt.Errorf("a request of %d bytes", length)
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(reader, body); err != nil {
			return err
		}
		if header[0] == kindPing {
			if err := c.send(kindPong, nil); err != nil {
				return err
			}
			continue
		}
		requests <- frame{header[0], body}
	}
}

func (c *channel) send(kind byte, body []byte) error {
	message := make([]byte, 5, 5+len(body))
	message[0] = kind
	binary.LittleEndian.PutUint32(message[1:], uint32(len(body)))
	message = append(message, body...)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	_, err := c.port.Write(message)
	return err
}

// rawPort blocks a thread while it waits: there are two of them at most, and the host is always there.
type rawPort struct{ fd int }

func (p *rawPort) Read(buffer []byte) (int, error) {
	for {
		n, err := unix.Read(p.fd, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (p *rawPort) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		n, err := unix.Write(p.fd, data[written:])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return written, err
		}
		written += max(n, 0)
	}
	return written, nil
}
