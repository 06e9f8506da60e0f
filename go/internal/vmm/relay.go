// This file owns the guest ports: the launcher holds the host's end of each for the life of the VMM, and lends it to
// one program at a time. QEMU must not see programs come and go: each time its end of a port is closed under it while
// the guest sends, it loses one of the port's 128 buffers for good (see proto/link.md).

package vmm

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const relayBytes = 64 << 10

// relay carries one port between the VMM and whoever is connected to its socket. Bytes for nobody are dropped.
type relay struct {
	vmm      net.Conn
	listener *net.UnixListener

	mutex  sync.Mutex
	client net.Conn
	// sending is held while bytes go to the VMM: those of two clients never mix.
	sending sync.Mutex
}

// newRelay makes the socket of a port beside the microVM's directory, and returns the end for the VMM.
func newRelay(directory, port string) (*relay, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("port %s: %w", port, err)
	}
	lent := os.NewFile(uintptr(pair[0]), port)
	own := os.NewFile(uintptr(pair[1]), port)
	defer own.Close()
	vmm, err := net.FileConn(own)
	if err != nil {
		lent.Close()
		return nil, nil, fmt.Errorf("port %s: %w", port, err)
	}
	path := directory + "." + port + ".sock"
	_ = os.Remove(path)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		if listener != nil {
			listener.Close()
		}
		lent.Close()
		vmm.Close()
		return nil, nil, fmt.Errorf("port %s: %w", filepath.Base(path), err)
	}
	return &relay{vmm: vmm, listener: listener}, lent, nil
}

// run returns when the VMM has closed its end; the socket has gone then.
func (r *relay) run() {
	defer r.close()
	go r.accept()
	buffer := make([]byte, relayBytes)
	for {
		n, err := r.vmm.Read(buffer)
		if n > 0 {
			if client := r.current(); client != nil {
				if _, err := client.Write(buffer[:n]); err != nil {
					r.drop(client)
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// close ends the relay. Idempotent.
func (r *relay) close() {
	r.listener.Close()
	r.vmm.Close()
	if client := r.current(); client != nil {
		r.drop(client)
	}
}

func (r *relay) accept() {
	for {
		client, err := r.listener.AcceptUnix()
		if err != nil {
			return
		}
		if uid, err := PeerUID(client); err != nil || (uid != 0 && int(uid) != os.Geteuid()) {
			client.Close()
			continue
		}
		r.mutex.Lock()
		before := r.client
		r.client = client
		r.mutex.Unlock()
		if before != nil {
			// One at a time: a second one ends the first.
			before.Close()
		}
		go r.send(client)
	}
}

// send carries a client's bytes to the VMM until the client goes, or another takes its place.
func (r *relay) send(client net.Conn) {
	defer r.drop(client)
	buffer := make([]byte, relayBytes)
	for {
		n, err := client.Read(buffer)
		if n > 0 && !r.pass(client, buffer[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) pass(client net.Conn, data []byte) bool {
	r.sending.Lock()
	defer r.sending.Unlock()
	if r.current() != client {
		return false
	}
	_, err := r.vmm.Write(data)
	return err == nil
}

func (r *relay) current() net.Conn {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.client
}

func (r *relay) drop(client net.Conn) {
	client.Close()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.client == client {
		r.client = nil
	}
}
