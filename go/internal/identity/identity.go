// Package identity gives a microVM what sets it apart from others restored from the same template: entropy, clock,
// name and machine id. Before it nothing that depends on any of them may be read or drawn.
package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// minEntropy is how many bytes of the host's randomness are asked for at least.
const minEntropy = 32

// maxEntropy bounds what is mixed in at once.
const maxEntropy = 4096

// ErrInvalid is wrapped by the refusals of a request that makes no sense.
var ErrInvalid = errors.New("invalid")

const (
	maxHostname     = 64
	machineIDDigits = 32
)

// Identity is what the host gives to a microVM.
type Identity struct {
	Hostname  string
	MachineID string
	// UnixNanoseconds is the host's wall clock.
	UnixNanoseconds int64
	Entropy         []byte
}

// Validate says what is wrong with it; the error wraps ErrInvalid.
func (i *Identity) Validate() error {
	switch {
	case !isHostname(i.Hostname):
		return fmt.Errorf("hostname: %w: must have 1 to %d letters, digits, dots and hyphens, and begin and end with a letter or digit",
			ErrInvalid, maxHostname)
	case len(i.MachineID) != machineIDDigits || strings.Trim(i.MachineID, "0123456789abcdef") != "":
		return fmt.Errorf("machine_id: %w: must be 32 lower-case hexadecimal digits", ErrInvalid)
	case len(i.Entropy) < minEntropy || len(i.Entropy) > maxEntropy:
		return fmt.Errorf("entropy: %w: must have %d to %d bytes", ErrInvalid, minEntropy, maxEntropy)
	}
	return checkClock(i.UnixNanoseconds)
}

// isHostname, and the check of the machine id, go without regular expressions: they run once in every microVM.
func isHostname(name string) bool {
	if name == "" || len(name) > maxHostname {
		return false
	}
	for at := range len(name) {
		c := name[at]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '.' || c == '-') && at > 0 && at < len(name)-1:
		default:
			return false
		}
	}
	return true
}

// Apply makes the kernel's part of it true, the entropy first, and returns the boot id, read for the first time.
func (i *Identity) Apply() (bootID string, err error) {
	if err := mixIn(i.Entropy); err != nil {
		return "", err
	}
	if _, err := SetClock(i.UnixNanoseconds); err != nil {
		return "", err
	}
	if err := unix.Sethostname([]byte(i.Hostname)); err != nil {
		return "", fmt.Errorf("sethostname: %w", err)
	}
	return readBootID()
}

func readBootID() (string, error) {
	fd, err := unix.Open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	defer unix.Close(fd)
	var text [64]byte
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(text[:n])), nil
}

// mixIn credits the bytes to the kernel's random number generator and makes it use them from the next byte on.
func mixIn(entropy []byte) error {
	device, err := unix.Open("/dev/urandom", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("entropy: open /dev/urandom: %w", err)
	}
	defer unix.Close(device)
	// struct rand_pool_info: bits credited, length in bytes, the bytes.
	request := make([]byte, 8, 8+len(entropy))
	binary.NativeEndian.PutUint32(request[0:], uint32(len(entropy)*8))
	binary.NativeEndian.PutUint32(request[4:], uint32(len(entropy)))
	request = append(request, entropy...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&request[0])))
	if errno != 0 {
		return fmt.Errorf("entropy: RNDADDENTROPY: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), unix.RNDRESEEDCRNG, 0); errno != 0 {
		return fmt.Errorf("entropy: RNDRESEEDCRNG: %w", errno)
	}
	return nil
}

func checkClock(unixNanoseconds int64) error {
	if unixNanoseconds < time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() {
		return fmt.Errorf("unix_nanoseconds: %w: before 2020", ErrInvalid)
	}
	return nil
}

// SetClock sets the wall clock and returns how far it was behind. An error for a time that cannot be wraps ErrInvalid.
func SetClock(unixNanoseconds int64) (wasBehind time.Duration, err error) {
	if err := checkClock(unixNanoseconds); err != nil {
		return 0, err
	}
	behind := unixNanoseconds - time.Now().UnixNano()
	to := unix.NsecToTimespec(unixNanoseconds)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
		return 0, fmt.Errorf("clock_settime: %w", err)
	}
	return time.Duration(behind), nil
}
