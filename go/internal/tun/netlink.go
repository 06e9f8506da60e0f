// This file owns how the kernel is told of addresses and routes: rtnetlink, of which few messages are needed.
package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// configure brings the device up with its addresses and routes; what is there already stays.
func configure(settings Settings) error {
	device, err := net.InterfaceByName(Name)
	if err != nil {
		return fmt.Errorf("find %s: %w", Name, err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	index := uint32(device.Index)
	if err := ask(fd, unix.RTM_NEWLINK, 0, linkMessage(index, settings.MTU)); err != nil {
		return fmt.Errorf("raise %s: %w", Name, err)
	}
	for _, address := range settings.Addresses {
		if err := add(fd, unix.RTM_NEWADDR, addressMessage(index, address)); err != nil {
			return fmt.Errorf("address %s: %w", address, err)
		}
	}
	for _, route := range settings.Routes {
		if err := add(fd, unix.RTM_NEWROUTE, routeMessage(index, route)); err != nil {
			return fmt.Errorf("route %s: %w", route, err)
		}
	}
	return nil
}

// add is ask, for something that may be there already.
func add(fd int, kind uint16, body []byte) error {
	err := ask(fd, kind, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func linkMessage(index, mtu uint32) []byte {
	body := []byte{unix.AF_UNSPEC, 0, 0, 0}
	body = binary.NativeEndian.AppendUint32(body, index)
	body = binary.NativeEndian.AppendUint32(body, unix.IFF_UP)
	body = binary.NativeEndian.AppendUint32(body, unix.IFF_UP)
	return attribute(body, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, mtu))
}

func addressMessage(index uint32, address netip.Prefix) []byte {
	family := familyOf(address.Addr())
	body := []byte{family, byte(address.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	body = binary.NativeEndian.AppendUint32(body, index)
	body = attribute(body, unix.IFA_LOCAL, address.Addr().AsSlice())
	return attribute(body, unix.IFA_ADDRESS, address.Addr().AsSlice())
}

func routeMessage(index uint32, route netip.Prefix) []byte {
	body := []byte{
		familyOf(route.Addr()), byte(route.Bits()), 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0,
	}
	if route.Bits() > 0 {
		body = attribute(body, unix.RTA_DST, route.Addr().AsSlice())
	}
	return attribute(body, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, index))
}

func familyOf(address netip.Addr) byte {
	if address.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func attribute(body []byte, kind uint16, value []byte) []byte {
	body = binary.NativeEndian.AppendUint16(body, uint16(unix.SizeofRtAttr+len(value)))
	body = binary.NativeEndian.AppendUint16(body, kind)
	body = append(body, value...)
	for len(body)%unix.RTA_ALIGNTO != 0 {
		body = append(body, 0)
	}
	return body
}

// ask sends one message and waits for its acknowledgement.
func ask(fd int, kind, flags uint16, body []byte) error {
	message := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	message = append(message, make([]byte, 8)...)
	message = append(message, body...)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8192)
	count, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if count < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is none")
	}
	if number := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); number != 0 {
		return unix.Errno(-number)
	}
	return nil
}
