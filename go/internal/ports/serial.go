// This file owns a virtio-serial port: finding it by name, and reading it while hosts come and go.
package ports

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/link"
)

// absence is how long no host must be connected before the port's session counts as ended. The kernel may still say
// so for a moment after the next host's first bytes.
const absence = 5 * time.Second

// serial reads and writes a port without blocking a thread.
type serial struct {
	file *os.File
	raw  syscall.RawConn
	// gone: ErrDisconnected was returned, and nothing has come since.
	gone bool
}

// findSerial returns the device of the port with that name, empty when there is none yet.
func findSerial(name Name) (string, error) {
	paths, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(text)) == string(name) {
			return "/dev/" + filepath.Base(filepath.Dir(path)), nil
		}
	}
	return "", nil
}

func openSerial(device string) (*serial, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	file := os.NewFile(uintptr(fd), device)
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return &serial{file: file, raw: raw}, nil
}

// Read waits for bytes. A port without a host reads as ended: that is waited out here, and told once, with
// link.ErrDisconnected, when it lasts.
func (s *serial) Read(buffer []byte) (int, error) {
	for {
		n := 0
		var failure error
		var disconnectedAt time.Time
		err := s.raw.Read(func(fd uintptr) bool {
			for {
				n, failure = unix.Read(int(fd), buffer)
				if !errors.Is(failure, unix.EINTR) {
					break
				}
			}
			if errors.Is(failure, unix.EAGAIN) {
				// A host is connected and says nothing.
				if !disconnectedAt.IsZero() || s.gone {
					disconnectedAt, s.gone = time.Time{}, false
					_ = s.file.SetReadDeadline(time.Time{})
				}
				return false
			}
			if failure == nil && n == 0 {
				if !s.gone && disconnectedAt.IsZero() {
					disconnectedAt = time.Now()
					_ = s.file.SetReadDeadline(disconnectedAt.Add(absence))
				}
				return false
			}
			return true
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = s.file.SetReadDeadline(time.Time{})
			if disconnectedAt.IsZero() {
				continue
			}
			s.gone = true
			return 0, link.ErrDisconnected
		}
		if !disconnectedAt.IsZero() {
			_ = s.file.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return 0, err
		}
		if failure != nil {
			return 0, fmt.Errorf("read %s: %w", s.file.Name(), failure)
		}
		s.gone = false
		return n, nil
	}
}

// Write sends all of data, waiting for a host to take it.
func (s *serial) Write(data []byte) (int, error) {
	return s.file.Write(data)
}
