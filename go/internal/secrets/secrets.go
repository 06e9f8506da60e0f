// Package secrets keeps the secrets of a microVM as files in memory. What is not on a disk is in no snapshot, no export and
// no image of a disk.
package secrets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// Directory is where they are in the guest: on the tmpfs that is /run.
const Directory = "/run/pyro/secrets"

// The most that a microVM has, and the most bytes that one has.
const (
	mostSecrets = 64
	mostBytes   = 64 << 10
)

// ErrInvalid is wrapped by what refuses a request.
var ErrInvalid = errors.New("invalid")

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Secret is one, with its value.
type Secret struct {
	Name  string
	Value []byte
}

// Put makes these the only secrets below directory, which must be in memory. Each is its old or its new self at any moment.
func Put(directory string, secrets []Secret) error {
	if err := validate(secrets); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(directory), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := inMemory(directory); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, secret := range secrets {
		wanted[secret.Name] = true
		if err := write(directory, secret); err != nil {
			return fmt.Errorf("secret %s: %w", secret.Name, err)
		}
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !wanted[entry.Name()] {
			if err := os.RemoveAll(filepath.Join(directory, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func validate(secrets []Secret) error {
	if len(secrets) > mostSecrets {
		return fmt.Errorf("%w: more than %d secrets", ErrInvalid, mostSecrets)
	}
	seen := map[string]bool{}
	for i, secret := range secrets {
		if !namePattern.MatchString(secret.Name) {
			return fmt.Errorf("%w: name %d must match %s", ErrInvalid, i, namePattern)
		}
		if len(secret.Value) > mostBytes {
			return fmt.Errorf("%w: secret %s has more than %d bytes", ErrInvalid, secret.Name, mostBytes)
		}
		if seen[secret.Name] {
			return fmt.Errorf("%w: secret %s twice", ErrInvalid, secret.Name)
		}
		seen[secret.Name] = true
	}
	return nil
}

// inMemory refuses a directory that is a link, or on a disk: a workspace's root may have put anything there.
func inMemory(directory string) error {
	fd, err := unix.Open(directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", directory, err)
	}
	defer unix.Close(fd)
	var info unix.Statfs_t
	if err := unix.Fstatfs(fd, &info); err != nil {
		return fmt.Errorf("%s: %w", directory, err)
	}
	if info.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not in memory", directory)
	}
	return nil
}

func write(directory string, secret Secret) (err error) {
	file, err := os.CreateTemp(directory, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(secret.Value)
	err = errors.Join(err, file.Chmod(0o400), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(directory, secret.Name))
}
