// This file owns /etc/resolv.conf. An image's own file stays what it is: another one is mounted over it.
package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// own is the file that programs see; /run is in memory.
	own      = "/run/pyro/resolv.conf"
	resolver = "/etc/resolv.conf"
)

// Resolve has programs ask servers for names. Idempotent.
func Resolve(servers []netip.Addr) error {
	var text strings.Builder
	text.WriteString("# pyro's: the name server that keeps to this workspace's network policy.\n")
	for _, server := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(own, []byte(text.String()), 0o644); err != nil {
		return err
	}
	if now, err := os.ReadFile(resolver); err == nil && string(now) == text.String() {
		return nil
	}
	if err := place(); err != nil {
		return fmt.Errorf("a place for %s: %w", resolver, err)
	}
	if err := unix.Mount(own, resolver, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", resolver, err)
	}
	return nil
}

// place makes a file to mount over where there is none; that of a link is made where the link leads.
func place() error {
	info, err := os.Stat(resolver)
	if err == nil {
		if !info.Mode().IsRegular() {
			return errors.New("not a file")
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	directory := filepath.Dir(resolver)
	if target, err := os.Readlink(resolver); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(directory, target)
		}
		directory = filepath.Dir(target)
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(resolver, os.O_CREATE|os.O_WRONLY|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}
