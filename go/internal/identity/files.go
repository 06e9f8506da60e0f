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
// Each file is replaced as a whole, and only when it differs.
func (i *Identity) WriteFiles(root string) error {
	directory := root + "/etc"
	if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return errors.Join(
		replace(directory, "machine-id", i.MachineID+"\n", 0o444),
		replace(directory, "hostname", i.Hostname+"\n", 0o644),
		replace(directory, "hosts", withHosts(read(directory+"/hosts"), i.Hostname), 0o644),
	)
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
		add += "127.0.1.1\t" + hostname + "\n"
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

// read returns the text of a regular file, empty for anything else: a pipe there must not hold guestd up.
func read(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ""
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(file, readLimit))
	if err != nil {
		return ""
	}
	return string(text)
}

// replace writes a file beside and renames it, so that whatever stands there now, a link or a device, is only replaced.
func replace(directory, name, text string, mode os.FileMode) error {
	path := directory + "/" + name
	if read(path) == text {
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
