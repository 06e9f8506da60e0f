// Package netd is the network of one microVM, in user space: it takes the guest's packets from the guest port, ends its
// connections in a stack of its own, asks the policy, and makes connections of the host for those that are allowed.
// Everything that comes over the link is a guest's and may be anything.
//
// This file owns the link: IP packets, each behind its length, on a byte stream.
package netd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// MTU of the guest's device, bytes. Large packets are what makes it fast: each costs the guest a turn.
	MTU = 65520
	// lengthBytes precede each packet: its length, big endian.
	lengthBytes = 2
	// queueLength is how many packets wait to be sent before whoever makes them waits.
	queueLength = 64
	// patienceOfSenders is how long that is: a packet which finds no room then is lost, as packets are. Locks are held
	// meanwhile, so whoever does not read must not hold up everything for ever.
	patienceOfSenders = time.Second
)

var errPacket = errors.New("a packet that is none")

// link is the stack's device. Packets to the guest wait in a queue; dropping them would only have them sent again.
type link struct {
	stream  io.ReadWriter
	gateway []tcpip.Address

	mutex      sync.RWMutex
	dispatcher stack.NetworkDispatcher

	queue  chan *stack.PacketBuffer
	closed chan struct{}
	once   sync.Once
}

var _ stack.LinkEndpoint = (*link)(nil)

func newLink(stream io.ReadWriter, queue int, gateway ...tcpip.Address) *link {
	return &link{
		stream: stream, gateway: gateway, queue: make(chan *stack.PacketBuffer, queue), closed: make(chan struct{}),
	}
}

// receive gives the stack what the guest sends. It returns when the stream ends, or holds no packets.
func (l *link) receive() error {
	in := bufio.NewReaderSize(l.stream, 256<<10)
	var head [lengthBytes]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		length := int(binary.BigEndian.Uint16(head[:]))
		if length == 0 {
			// Nothing: what the session was begun with.
			continue
		}
		if length > MTU {
			return fmt.Errorf("%w: %d bytes", errPacket, length)
		}
		view := buffer.NewViewSize(length)
		if _, err := io.ReadFull(in, view.AsSlice()); err != nil {
			view.Release()
			return err
		}
		l.deliver(view)
	}
}

// deliver takes one packet. What is neither IPv4 nor IPv6 is dropped.
func (l *link) deliver(view *buffer.View) {
	var protocol tcpip.NetworkProtocolNumber
	switch header.IPVersion(view.AsSlice()) {
	case header.IPv4Version:
		protocol = header.IPv4ProtocolNumber
	case header.IPv6Version:
		protocol = header.IPv6ProtocolNumber
	}
	l.mutex.RLock()
	dispatcher := l.dispatcher
	l.mutex.RUnlock()
	if protocol == 0 || dispatcher == nil || l.isForeignEcho(view.AsSlice()) {
		view.Release()
		return
	}
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	dispatcher.DeliverNetworkPacket(protocol, packet)
	packet.DecRef()
}

// isForeignEcho tells a ping of somebody else than the gateway: the stack, which takes every packet, would answer it
// for anyone.
func (l *link) isForeignEcho(packet []byte) bool {
	var to tcpip.Address
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		if len(packet) < header.IPv4MinimumSize || ip.TransportProtocol() != header.ICMPv4ProtocolNumber {
			return false
		}
		to = ip.DestinationAddress()
	case header.IPv6Version:
		ip := header.IPv6(packet)
		if len(packet) <= header.IPv6MinimumSize || ip.TransportProtocol() != header.ICMPv6ProtocolNumber {
			return false
		}
		if packet[header.IPv6MinimumSize] != byte(header.ICMPv6EchoRequest) {
			return false
		}
		to = ip.DestinationAddress()
	}
	for _, own := range l.gateway {
		if to == own {
			return false
		}
	}
	return true
}

// send writes what the stack has for the guest. It returns when the stream takes nothing more, or after close.
func (l *link) send() error {
	var out []byte
	for {
		select {
		case packet := <-l.queue:
			out = appendPacket(out[:0], packet)
			for more := true; more && len(out) < 4*MTU; {
				select {
				case packet := <-l.queue:
					out = appendPacket(out, packet)
				default:
					more = false
				}
			}
			if _, err := l.stream.Write(out); err != nil {
				return err
			}
		case <-l.closed:
			return nil
		}
	}
}

func appendPacket(out []byte, packet *stack.PacketBuffer) []byte {
	out = binary.BigEndian.AppendUint16(out, uint16(packet.Size()))
	for _, piece := range packet.AsSlices() {
		out = append(out, piece...)
	}
	packet.DecRef()
	return out
}

// WritePackets queues packets, and waits while the queue is full.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, packet := range packets.AsSlice() {
		if packet.Size() > MTU {
			continue
		}
		packet.IncRef()
		if !l.enqueue(packet) {
			packet.DecRef()
			return sent, &tcpip.ErrNoBufferSpace{}
		}
		sent++
	}
	return sent, nil
}

func (l *link) enqueue(packet *stack.PacketBuffer) bool {
	select {
	case l.queue <- packet:
		return true
	case <-l.closed:
		return false
	default:
	}
	timer := time.NewTimer(patienceOfSenders)
	defer timer.Stop()
	select {
	case l.queue <- packet:
		return true
	case <-l.closed:
	case <-timer.C:
	}
	return false
}

// Close lets go of whoever waits. Idempotent.
func (l *link) Close() { l.once.Do(func() { close(l.closed) }) }

// Attach is the stack's.
func (l *link) Attach(dispatcher stack.NetworkDispatcher) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.dispatcher = dispatcher
}

// IsAttached is the stack's.
func (l *link) IsAttached() bool {
	l.mutex.RLock()
	defer l.mutex.RUnlock()
	return l.dispatcher != nil
}

// Capabilities: checksums of what comes are not looked at, the stream loses and changes nothing.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// MTU is that of the guest's device.
func (l *link) MTU() uint32 { return MTU }

// SetMTU does nothing.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength is none: packets go without a link header.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress is none.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress does nothing.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Wait does nothing.
func (l *link) Wait() {}

// ARPHardwareType is none.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader does nothing.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader does nothing.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// SetOnCloseAction does nothing.
func (l *link) SetOnCloseAction(func()) {}
