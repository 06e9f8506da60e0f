// This file owns who may talk to the launcher: the lock that makes it the only one, its socket, and who is let in.

package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/vmm"
)

// maxSocketPath is the longest path a unix socket may have, bytes.
const maxSocketPath = 107

// lockTime is how long a launcher that ends may take to make way for the next.
const lockTime = 20 * time.Second

var (
	errLocked = errors.New("locked by another")
	errServed = errors.New("served by another")
)

// lock is held by one launcher for each socket, for as long as it lives.
type lock struct{ file *os.File }

// awaitLock takes the lock of a socket. Another launcher that holds it either serves, or is about to, or ends.
// Errors: errServed.
func awaitLock(socket string) (*lock, error) {
	for deadline := time.Now().Add(lockTime); ; time.Sleep(10 * time.Millisecond) {
		lock, err := takeLock(socket + ".lock")
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		if connection, err := net.DialTimeout("unix", socket, time.Second); err == nil {
			connection.Close()
			return nil, errServed
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("another launcher holds %s.lock and does not answer", socket)
		}
	}
}

// takeLock takes the lock without waiting. Errors: errLocked.
func takeLock(path string) (*lock, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			file.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The one before removes the file at its end: a lock on a removed file is worth nothing.
		held, err1 := file.Stat()
		named, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			return &lock{file}, nil
		}
		file.Close()
	}
}

func (l *lock) release() {
	os.Remove(l.file.Name())
	l.file.Close()
}

// listen makes the socket, in the place of one that a dead launcher left. The lock must be held.
func listen(path string) (net.Listener, error) {
	if stat, err := os.Lstat(path); err == nil {
		if stat.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and is not a socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	before := unix.Umask(0o177)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(before)
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	return &guarded{listener}, nil
}

// guarded lets in the launcher's own user, and root.
type guarded struct{ *net.UnixListener }

func (g *guarded) Accept() (net.Conn, error) {
	for {
		connection, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		user, err := vmm.PeerUID(connection)
		if err == nil && (user == 0 || user == uint32(os.Geteuid())) {
			return connection, nil
		}
		log.Printf("turned away user %d (%v)", user, err)
		connection.Close()
	}
}
