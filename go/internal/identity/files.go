// This file owns the identity as files of the guest's root: machine-id, hostname and hosts.
package identity

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// readLimit bounds how much of a file of the guest is read, bytes.
const readLimit = 1 << 20

// WriteFiles writes /etc/machine-id, /etc/hostname and what /etc/hosts lacks, below root (empty is the root itself).
// Each file is replaced as a whole, and only when it differs. before is the identity whose files stand there, nil when
// there is none: what it added to /etc/hosts goes.
func (i *Identity) WriteFiles(root string, before *Identity) error {
	directory := root + "/etc"
	if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return errors.Join(
		replace(directory, "machine-id", i.MachineID+"\n", 0o444),
		replace(directory, "hostname", i.Hostname+"\n", 0o644),
		i.writeHosts(directory, before),
	)
}

// writeHosts leaves a file alone that is too long to be read as a whole: it would be cut.
func (i *Identity) writeHosts(directory string, before *Identity) error {
	hosts, err := read(directory + "/hosts")
	if err != nil {
		return err
	}
	if before != nil && before.Hostname != i.Hostname {
		hosts = withoutLine(hosts, ownLine(before.Hostname))
	}
	return replace(directory, "hosts", withHosts(hosts, i.Hostname), 0o644)
}

func ownLine(hostname string) string { return "127.0.1.1\t" + hostname + "\n" }

func withoutLine(text, line string) string {
	var kept strings.Builder
	for other := range strings.Lines(text) {
		if other != line {
			kept.WriteString(other)
		}
	}
	return kept.String()
}

// withHosts adds the lines for localhost and hostname where no line names them.
func withHosts(hosts, hostname string) string {
	if hosts != "" && !strings.HasSuffix(hosts, "\n") {
		hosts += "\n"
	}
	add := ""
	if !names(hosts, "localhost") {
		add += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	}
	if !names(hosts, hostname) {
		add += ownLine(hostname)
	}
	return hosts + add
}

func names(hosts, name string) bool {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		for n, field := range strings.Fields(line) {
			if n > 0 && field == name {
				return true
			}
		}
	}
	return false
}

// errTooLong is the error of a file above readLimit.
var errTooLong = fmt.Errorf("longer than %d bytes", readLimit)

// read returns the text of a regular file, empty for anything else: a pipe there must not hold guestd up. Errors: those
// of a regular file that cannot be read as a whole.
func read(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", nil
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(file, readLimit+1))
	if err == nil && len(text) > readLimit {
		err = fmt.Errorf("%s: %w", path, errTooLong)
	}
	if err != nil {
		return "", err
	}
	return string(text), nil
}

// replace writes a file beside and renames it, so that whatever stands there now, a link or a device, is only replaced.
func replace(directory, name, text string, mode os.FileMode) error {
	path := directory + "/" + name
	if there, err := read(path); err == nil && there == text {
		return nil
	}
	beside := directory + "/." + name + ".pyro"
	if err := os.RemoveAll(beside); err != nil {
		return err
	}
	file, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", beside, err)
	}
	return os.Rename(beside, path)
}
