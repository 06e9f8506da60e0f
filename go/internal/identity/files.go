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

// Lay puts the files on a new disk before an overlay joins it with the tree below: lower is the root of that tree, upper
// the directory of the disk that will lie over it. Through the overlay the same takes three times as long. It does
// nothing, and says so, where the disk has an /etc or the tree below has none that could be laid out alike: WriteFiles
// is for those.
func (i *Identity) Lay(lower, upper string) (done bool, err error) {
	below, directory := lower+"/etc", upper+"/etc"
	var stat unix.Stat_t
	if err := unix.Lstat(below, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, nil
	}
	if size, err := unix.Llistxattr(below, nil); (err != nil && !errors.Is(err, unix.ENOTSUP)) || size > 0 {
		return false, nil
	}
	hosts, err := read(below + "/hosts")
	if err != nil {
		return false, nil
	}
	if err := unix.Mkdir(directory, 0o700); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return false, nil
		}
		return false, fmt.Errorf("make %s: %w", directory, err)
	}
	return true, errors.Join(
		unix.Lchown(directory, int(stat.Uid), int(stat.Gid)),
		unix.Chmod(directory, stat.Mode&0o7777),
		create(directory+"/machine-id", i.MachineID+"\n", 0o444),
		create(directory+"/hostname", i.Hostname+"\n", 0o644),
		create(directory+"/hosts", withHosts(hosts, i.Hostname), 0o644),
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
	if err := create(beside, text, mode); err != nil {
		return err
	}
	return os.Rename(beside, path)
}

// create writes a file that is not there yet.
func create(path, text string, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
