// Package tun is the guest's network device: a TUN whose packets go over the net port, each behind its length.
//
// This file owns the device and who carries its packets.
package tun

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// Name of the device.
	Name = "pyro0"

	control     = "/dev/net/tun"
	maxPacket   = 65535
	lengthBytes = 2
)

// Settings are what the device is to be.
type Settings struct {
	Addresses []netip.Prefix
	Routes    []netip.Prefix
	MTU       uint32
}

// Network is the microVM's. The zero value has no device.
type Network struct {
	mutex   sync.Mutex
	device  *os.File
	carried net.Conn
}

// Set makes the device, or changes the one there is. Errors: those of the kernel.
func (n *Network) Set(settings Settings) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	made := n.device == nil
	if made {
		device, err := open()
		if err != nil {
			return err
		}
		n.device = device
	}
	if err := configure(settings); err != nil {
		if made {
			n.device.Close()
			n.device = nil
		}
		return err
	}
	if made {
		go n.send(n.device)
	}
	return nil
}

// open makes a TUN. The descriptor does not block a thread: the runtime waits for it.
func open() (*os.File, error) {
	fd, err := unix.Open(control, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", control, err)
	}
	request, err := unix.NewIfreq(Name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make %s: %w", Name, err)
	}
	return os.NewFile(uintptr(fd), control), nil
}

// Serve carries packets over a session of the net port until it ends; the session before has ended by then. Without a
// device everything is sent back: it shows that the port carries bytes.
func (n *Network) Serve(conn net.Conn) {
	defer conn.Close()
	n.mutex.Lock()
	device := n.device
	if device != nil {
		n.carried = conn
	}
	n.mutex.Unlock()
	if device == nil {
		_, _ = io.Copy(conn, conn)
		return
	}
	defer func() {
		n.mutex.Lock()
		defer n.mutex.Unlock()
		if n.carried == conn {
			n.carried = nil
		}
	}()
	in := bufio.NewReaderSize(conn, 2*maxPacket)
	packet := make([]byte, maxPacket)
	for {
		var head [lengthBytes]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		length := int(binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(in, packet[:length]); err != nil {
			return
		}
		if length > 0 {
			// One that the kernel does not take is lost, as packets are.
			_, _ = device.Write(packet[:length])
		}
	}
}

// send carries what the kernel sends to whoever is there; packets for nobody are lost. It does not return while the
// device is there.
func (n *Network) send(device *os.File) {
	packet := make([]byte, lengthBytes+maxPacket)
	for {
		count, err := device.Read(packet[lengthBytes:])
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(packet, uint16(count))
		n.mutex.Lock()
		conn := n.carried
		n.mutex.Unlock()
		if conn != nil {
			_, _ = conn.Write(packet[:lengthBytes+count])
		}
	}
}
