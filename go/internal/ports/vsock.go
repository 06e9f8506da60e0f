// This file owns vsock: a listener and its connections, which the standard library does not know.
package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const vsockBacklog = 16

type vsockListener struct {
	file *os.File
	raw  syscall.RawConn
}

func listenVsock(port uint32) (*vsockListener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	file := os.NewFile(uintptr(fd), "vsock")
	fail := func(what string, err error) (*vsockListener, error) {
		_ = file.Close()
		return nil, fmt.Errorf("vsock: %s port %d: %w", what, port, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		return fail("bind", err)
	}
	if err := unix.Listen(fd, vsockBacklog); err != nil {
		return fail("listen", err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return fail("listen", err)
	}
	return &vsockListener{file: file, raw: raw}, nil
}

// acceptPause is how long accepting rests after a failure that may pass: no descriptor or memory left.
const acceptPause = 100 * time.Millisecond

// accept waits for a connection of the host. The guest's own programs reach the port too, and are turned away.
func (l *vsockListener) accept() (net.Conn, error) {
	for {
		fd, peer, err := l.next()
		switch {
		case passing(err):
			time.Sleep(acceptPause)
		case err != nil:
			return nil, fmt.Errorf("vsock: accept: %w", err)
		case !isHost(peer):
			unix.Close(fd)
		default:
			return &vsockConn{File: os.NewFile(uintptr(fd), "vsock")}, nil
		}
	}
}

// next waits for a connection of anyone.
func (l *vsockListener) next() (fd int, peer unix.Sockaddr, err error) {
	fd = -1
	var failure error
	err = l.raw.Read(func(listener uintptr) bool {
		for {
			fd, peer, failure = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if !errors.Is(failure, unix.EINTR) && !errors.Is(failure, unix.ECONNABORTED) {
				return !errors.Is(failure, unix.EAGAIN)
			}
		}
	})
	return fd, peer, errors.Join(err, failure)
}

// isHost tells the host, CID 2, from this machine's own programs and everyone else.
func isHost(peer unix.Sockaddr) bool {
	address, ok := peer.(*unix.SockaddrVM)
	return ok && address.CID == unix.VMADDR_CID_HOST
}

// passing tells a failure to accept that says nothing of the listener.
func passing(err error) bool {
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EPROTO, unix.ECONNRESET} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// vsockConn is a connection; reading, writing and deadlines are the file's.
type vsockConn struct {
	*os.File
}

type vsockAddress struct{}

func (vsockAddress) Network() string { return "vsock" }
func (vsockAddress) String() string  { return "vsock" }

func (*vsockConn) LocalAddr() net.Addr  { return vsockAddress{} }
func (*vsockConn) RemoteAddr() net.Addr { return vsockAddress{} }
