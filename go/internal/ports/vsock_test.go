package ports

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyTheHostIsLetIn(t *testing.T) {
	for _, c := range []struct {
		peer unix.Sockaddr
		want bool
	}{
		{&unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: 70000}, true},
		{&unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL}, false},
		{&unix.SockaddrVM{CID: unix.VMADDR_CID_HYPERVISOR}, false},
		{&unix.SockaddrVM{CID: 3}, false},
		{&unix.SockaddrUnix{}, false},
		{nil, false},
	} {
		if got := isHost(c.peer); got != c.want {
			t.Errorf("%#v: %v", c.peer, got)
		}
	}
}

func TestWhatPassesIsWaitedOut(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, unix.EMFILE: true, unix.ENFILE: true, unix.ENOMEM: true, unix.EBADF: false, unix.EINVAL: false,
	} {
		if got := passing(fmt.Errorf("accept: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
