// Package ports finds the guest ports and serves what runs over them: virtio-serial where the machine has it, with
// the frame layer, else vsock, without.
//
// This file owns the choice between the two.
package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pyro.dev/pyro/go/internal/link"
)

// Name is a guest port's name.
type Name string

// The ports every microVM has.
const (
	Control Name = "control"
	Net     Name = "net"
)

// vsockPorts are the numbers of the ports where they are vsock's.
var vsockPorts = map[Name]uint32{Control: 1024, Net: 1025}

const pollInterval = 5 * time.Millisecond

// ErrNone is returned when no port came up in time.
var ErrNone = errors.New("neither virtio-serial ports nor a vsock device")

// Port is an open guest port.
type Port struct {
	Name   Name
	serial *serial
	vsock  *vsockListener
}

// Open waits for the port until the deadline and opens it.
func Open(name Name, deadline time.Time) (*Port, error) {
	for {
		device, err := findSerial(name)
		if err != nil {
			return nil, err
		}
		if device != "" {
			port, err := openSerial(device)
			if err != nil {
				return nil, err
			}
			return &Port{Name: name, serial: port}, nil
		}
		if hasDevice(deviceVsock) && !hasDevice(deviceConsole) {
			listener, err := listenVsock(vsockPorts[name])
			if err != nil {
				return nil, err
			}
			return &Port{Name: name, vsock: listener}, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("port %s: %w", name, ErrNone)
		}
		time.Sleep(pollInterval)
	}
}

// Serve calls handle, in its own goroutine, for each connection that the host makes. It returns only when the port
// fails.
func (p *Port) Serve(handle func(net.Conn)) error {
	if p.serial != nil {
		return link.Serve(p.serial, func(session *link.Session) { handle(session) })
	}
	for {
		conn, err := p.vsock.accept()
		if err != nil {
			return err
		}
		go handle(conn)
	}
}

// Virtio device numbers, as in /sys/bus/virtio/devices/*/device.
const (
	deviceConsole = "0x0003"
	deviceVsock   = "0x0013"
)

func hasDevice(kind string) bool {
	paths, err := filepath.Glob("/sys/bus/virtio/devices/*/device")
	if err != nil {
		return false
	}
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == kind {
			return true
		}
	}
	return false
}
