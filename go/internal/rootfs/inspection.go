// This file owns mounting a workspace's disks to be looked at: as lower layers, apart from everything that runs, and with
// nothing in them that could be run, opened as a device, or raise anyone.
package rootfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// auxDevice is the third drive.
const auxDevice = "/dev/vdc"

// Places in the initramfs, which stays the root.
const (
	auxPlace     = "/mnt/aux"
	auxRootPlace = "/mnt/aux-root"
)

// inert are the flags of everything that is only looked at.
const inert = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME

// inspectedOptions: what is damaged is an error for whoever reads it, whatever the disk itself says is to be done.
const inspectedOptions = ext4Options + ",errors=remount-ro"

// Attachment is how a disk is attached to be looked at.
type Attachment int

// The attachments, as the protocol has them.
const (
	None Attachment = iota
	// ReadOnly is a disk that cannot be written, whose size the kernel has not been told of.
	ReadOnly
	// Copy is one that nobody needs afterwards: its journal is replayed.
	Copy
	// Empty is a new file system to be filled.
	Empty
)

// NeedsReplay says which disk has a journal to be replayed and cannot be written. It is no error of the disk.
type NeedsReplay struct{ Disk, Aux bool }

func (n *NeedsReplay) Error() string {
	return "a journal has to be replayed, on a disk that is read-only"
}

// Inspection is a workspace's disks as they are looked at. Its descriptors are good until the microVM ends, but for that of
// an Empty aux, which Release closes.
type Inspection struct {
	// Root is what the workspace's processes had as their root.
	Root *os.File
	// Disk is the top of the writable disk, of which Root shows the directory Upper.
	Disk *os.File
	// AuxRoot and Aux are the same of the aux disk, nil where there is none. AuxRoot is nil for an Empty one.
	AuxRoot, Aux *os.File
	base         *os.File
}

// Place is the path of what Root is.
func (i *Inspection) Place() string { return rootPlace }

// Inspect mounts base and disk, and aux if there is one. Errors: ErrBaseType, *NeedsReplay, *Error for what cannot be
// mounted; after each of them this microVM is of no further use.
func Inspect(baseType string, disk, aux Attachment) (*Inspection, error) {
	if baseType != "squashfs" {
		return nil, ErrBaseType
	}
	i := &Inspection{}
	needs := &NeedsReplay{}
	err := run([]step{
		{"places", func() error { return makeDirectories("", auxPlace, auxRootPlace) }},
		{"drives", func() error { return errors.Join(lookAnew(writableDevice, disk), lookAnew(auxDevice, aux)) }},
		{"journals", func() (err error) {
			if needs.Disk, err = needsReplay(writableDevice, disk); err == nil {
				needs.Aux, err = needsReplay(auxDevice, aux)
			}
			if err == nil && (needs.Disk || needs.Aux) {
				err = needs
			}
			return err
		}},
		{"base disk", func() error {
			err := mountDisk(baseDevice, basePlace, baseType, unix.MS_RDONLY|inert, "")
			return explain(err, baseDevice, 0, squashfsMagic)
		}},
		{"disk", func() error { return mountInspected(writableDevice, writablePlace, unix.MS_RDONLY) }},
		{"layers of the disk", func() error { return stack(writablePlace, rootPlace) }},
		{"aux disk", func() error { return mountAux(aux) }},
		{"views", func() error { return i.open(aux) }},
	})
	if errors.As(err, &needs) {
		return nil, needs
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}

func (i *Inspection) open(aux Attachment) (err error) {
	for _, view := range []struct {
		place string
		file  **os.File
		there bool
	}{
		{rootPlace, &i.Root, true},
		{basePlace, &i.base, true},
		{writablePlace, &i.Disk, true},
		{auxPlace, &i.Aux, aux != None},
		{auxRootPlace, &i.AuxRoot, aux == ReadOnly || aux == Copy},
	} {
		if view.there && err == nil {
			*view.file, err = os.Open(view.place)
		}
	}
	return err
}

// Release unmounts an Empty aux that was filled, and returns when all of it is on the host's side.
func (i *Inspection) Release() error {
	if err := i.Aux.Close(); err != nil {
		return err
	}
	if err := unix.Unmount(auxPlace, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	device, err := os.OpenFile(auxDevice, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(device.Sync(), device.Close())
}

func mountAux(aux Attachment) error {
	switch aux {
	case None:
		return nil
	case Empty:
		return mountInspected(auxDevice, auxPlace, 0)
	}
	if err := mountInspected(auxDevice, auxPlace, unix.MS_RDONLY); err != nil {
		return err
	}
	return stack(auxPlace, auxRootPlace)
}

// mountInspected replays the journal where the device can be written, also for a mount that is read-only.
func mountInspected(device, place string, more uintptr) error {
	return waitForSize(func() error {
		return explain(mountDisk(device, place, "ext4", inert|more, inspectedOptions), device, ext4MagicAt, ext4Magic)
	})
}

// stack shows at place what a root on that disk showed. The options are those of mountOverlay: a disk must mean the same.
func stack(disk, place string) error {
	upper := disk + "/" + Upper
	// The workspace's root can put there whatever it likes.
	info, err := os.Lstat(upper)
	if errors.Is(err, os.ErrNotExist) {
		// Nothing ran on it yet: it was reset, or is a clone. The base is all there is, with the flags it is mounted with.
		return unix.Mount(basePlace, place, "", unix.MS_BIND, "")
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w", Upper, unix.ENOTDIR)
	}
	return unix.Mount("overlay", place, "overlay", unix.MS_RDONLY|inert,
		"lowerdir="+upper+":"+basePlace+",index=off,metacopy=off,redirect_dir=off")
}

// lookAnew has the kernel let go of a drive and take it again: its size, and that it is read-only, are what they were in the
// template otherwise, as no host can tell the guest of a new size of a drive that is read-only.
func lookAnew(device string, attached Attachment) error {
	if attached != ReadOnly {
		return nil
	}
	link, err := os.Readlink("/sys/block/" + filepath.Base(device) + "/device")
	if err != nil {
		return err
	}
	name := []byte(filepath.Base(link))
	for _, action := range []string{"unbind", "bind"} {
		if err := os.WriteFile("/sys/bus/virtio/drivers/virtio_blk/"+action, name, 0); err != nil {
			return err
		}
	}
	return nil
}

// needsReplay reads one flag of an ext4 superblock; what is none is left for the mount to refuse.
func needsReplay(device string, attached Attachment) (bool, error) {
	if attached != ReadOnly {
		return false, nil
	}
	file, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer file.Close()
	const (
		at       = 1024
		magic    = 56
		features = 96
		replay   = 4
	)
	block := make([]byte, 256)
	if _, err := file.ReadAt(block, at); err != nil {
		return false, fmt.Errorf("reading: %w", err)
	}
	isExt4 := string(block[magic:magic+len(ext4Magic)]) == ext4Magic
	return isExt4 && binary.LittleEndian.Uint32(block[features:])&replay != 0, nil
}
