// This file owns the files that a VMM has by name: which ones may be, links to them where there is no sandbox, and whose
// they are while a jailed VMM runs.

package vmm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pyro.dev/pyro/go/internal/confine"
)

// jailed tells whether the VMM is confined by a jailer.
func (v *vm) jailed() bool { return v.jailer() != "" }

func (v *vm) jailer() string {
	if v.spec.Confined && os.Geteuid() == 0 {
		return v.spec.Jailer
	}
	return ""
}

// root is the VMM's present directory, as the host sees it.
func (v *vm) root() string {
	if v.jailed() {
		return confine.JailRoot(v.directory)
	}
	return v.directory
}

// checkFiles refuses what the confinement could not hand over.
func (v *vm) checkFiles() error {
	if v.jailed() && (v.spec.TemplateID != "" || len(v.spec.Ports) > 0) {
		return errors.New("a jailed VMM inherits no descriptors: neither memory nor ports")
	}
	for _, file := range v.spec.Files {
		if v.jailed() && file.Name == "" {
			return fmt.Errorf("a jailed VMM inherits no descriptors: %s needs a name", file.Path)
		}
		if !v.jailed() && v.uid != 0 && file.Name != "" {
			return fmt.Errorf("%s: the VMM's user cannot reach files by name without a jailer", file.Path)
		}
	}
	return nil
}

func (v *vm) named() []confine.Named {
	var named []confine.Named
	for _, file := range v.spec.Files {
		if file.Name != "" && file.Empty == 0 {
			named = append(named, confine.Named{Path: file.Path, Name: file.Name, ReadOnly: file.ReadOnly})
		}
	}
	return named
}

func (v *vm) linkNamed() error {
	for _, file := range v.named() {
		if err := os.Symlink(file.Path, filepath.Join(v.root(), file.Name)); err != nil {
			return fmt.Errorf("name %s: %w", file.Path, err)
		}
	}
	return nil
}

// makeEmpty makes the files that are the VMM's alone, without taking room for them.
func (v *vm) makeEmpty() error {
	for _, file := range v.spec.Files {
		if file.Empty == 0 {
			continue
		}
		path := filepath.Join(v.root(), file.Name)
		made, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			err = errors.Join(made.Truncate(int64(file.Empty)), made.Chown(int(v.owner()), int(v.owner())), made.Close())
		}
		if err != nil {
			return fmt.Errorf("make an empty file: %w", err)
		}
	}
	return nil
}

// owner is the VMM's user.
func (v *vm) owner() uint32 {
	if v.uid != 0 {
		return v.uid
	}
	return uint32(os.Geteuid())
}

// lendDisks makes the files that the VMM writes its user's own. They are where no other user gets to.
func (v *vm) lendDisks() error {
	for _, file := range v.spec.Files {
		if file.ReadOnly || file.Empty > 0 {
			continue
		}
		opened, err := file.open()
		if err != nil {
			return err
		}
		v.lent = append(v.lent, opened)
		if err := opened.Chown(int(v.uid), int(v.uid)); err != nil {
			return fmt.Errorf("lend the disk: %w", err)
		}
	}
	return nil
}

// takeBack makes the lent disks the launcher's again, with no more of a mode than they need: it was their user's to
// change.
func (v *vm) takeBack() {
	for _, file := range v.lent {
		_ = file.Chown(0, 0)
		_ = file.Chmod(0o600)
		file.Close()
	}
	v.lent = nil
}
