// Package trust has the programs of a microVM trust an authority that is its own. The list of authorities that they read is
// another one, in memory, mounted over the image's: no disk, snapshot or export holds it.
package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// Directory holds what the environment of processes points to: the authority alone, and all that are trusted.
	Directory = "/run/pyro/trust"
	authority = "authority.pem"
	bundle    = "bundle.pem"
	mostBytes = 8 << 20
)

// ErrInvalid is wrapped by what refuses a certificate.
var ErrInvalid = errors.New("invalid")

// lists are where images keep theirs, the first that is there being the one that is read.
var lists = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// Add has a certificate, PEM, trusted beside those that the image trusts, or, where it has no list, beside others. It can be
// called again. Errors: ErrInvalid, those of the file system; the files in Directory are there then even where a list could
// not be mounted over.
func Add(certificate, others []byte) error {
	if err := check(certificate); err != nil {
		return err
	}
	all := others
	for _, path := range lists {
		if own, err := read(path); err == nil {
			all = own
			break
		}
	}
	if !bytes.Contains(all, certificate) {
		all = append(append(bytes.TrimRight(all, "\n"), '\n'), certificate...)
	}
	if err := os.MkdirAll(Directory, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{authority: certificate, bundle: all} {
		if err := os.WriteFile(filepath.Join(Directory, name), data, 0o644); err != nil {
			return err
		}
	}
	var failure error
	for _, path := range lists {
		// One may be a link to another, and that one be done.
		if own, err := read(path); err != nil || bytes.Contains(own, certificate) {
			continue
		}
		if err := unix.Mount(filepath.Join(Directory, bundle), path, "", unix.MS_BIND, ""); err != nil {
			failure = errors.Join(failure, fmt.Errorf("mount over %s: %w", path, err))
		}
	}
	return failure
}

func check(certificate []byte) error {
	block, rest := pem.Decode(certificate)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("%w: not one certificate", ErrInvalid)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// read is a list that is there. A workspace's root may have put anything in its place.
func read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > mostBytes {
		return nil, fmt.Errorf("%s is no list", path)
	}
	return io.ReadAll(io.LimitReader(file, mostBytes))
}
