// This file owns getting at what the workspace was at its beginning: the baseline's disk, on a drive that is read-only in the
// VMM, and the base below it. The disk is mounted only as long as somebody looks, and at no path: nobody else sees it.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const baselineDevice = "/dev/vdd"

// Baseline is what was there at the beginning, while it is open.
type Baseline struct {
	// Layers are descriptors of the roots that had the workspace's files, the topmost first.
	Layers []int
	// Manifest lists what /workspace held; nil where it held nothing but what the base has.
	Manifest *os.File
	opened   []*os.File
}

// Close lets go of it.
func (b *Baseline) Close() {
	for _, file := range b.opened {
		file.Close()
	}
}

// keepBaseline keeps what the baseline needs and has no path in the root.
func (r *Root) keepBaseline() error {
	var err error
	if r.base, err = os.Open(basePlace); err != nil {
		return err
	}
	// Not opened for good: what is on it may come later.
	fd, err := unix.Open(kernelPlace+baselineDevice, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", baselineDevice, err)
	}
	r.baseline = os.NewFile(uintptr(fd), baselineDevice)
	return nil
}

// OpenBaseline opens the baseline: with the disk of it, or only what the base has. Errors: *Error.
func (r *Root) OpenBaseline(withDisk bool) (*Baseline, error) {
	return openBaseline(r.base, fmt.Sprintf("/proc/self/fd/%d", r.baseline.Fd()), withDisk)
}

// OpenBaseline is the same for a workspace whose disks are looked at. Errors: *Error.
func (i *Inspection) OpenBaseline(withDisk bool) (*Baseline, error) {
	return openBaseline(i.base, baselineDevice, withDisk)
}

func openBaseline(base *os.File, device string, withDisk bool) (*Baseline, error) {
	b := &Baseline{Layers: []int{int(base.Fd())}}
	if !withDisk {
		return b, nil
	}
	if err := b.addDisk(device, Upper); err != nil {
		b.Close()
		return nil, &Error{"baseline disk", err}
	}
	return b, nil
}

// addDisk puts the tree that a disk has at upper on top of the layers, and opens the manifest that is written on it.
func (b *Baseline) addDisk(device, upper string) error {
	disk, err := mountUnseen(device)
	if err != nil {
		return err
	}
	b.opened = append(b.opened, disk)
	layer, err := b.openOn(disk, upper, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	b.Layers = append([]int{int(layer.Fd())}, b.Layers...)
	b.Manifest, err = b.openOn(disk, manifestPath, unix.O_RDONLY|unix.O_NONBLOCK)
	return err
}

func (b *Baseline) openOn(disk *os.File, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(int(disk.Fd()), path, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	b.opened = append(b.opened, file)
	return file, nil
}

// mountUnseen mounts an ext4 disk read-only, without a path: it stays mounted as long as something of it is open. The disk
// was copied while it was still, so its journal has nothing to say.
func mountUnseen(device string) (*os.File, error) {
	for deadline := time.Now().Add(resizeDeadline); ; time.Sleep(5 * time.Millisecond) {
		disk, err := tryUnseen(device)
		err = explain(err, device, ext4MagicAt, ext4Magic)
		if !errors.Is(err, unix.EINVAL) || time.Now().After(deadline) {
			return disk, err
		}
	}
}

func tryUnseen(device string) (*os.File, error) {
	if err := forget(device); err != nil {
		return nil, err
	}
	context, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigSetString(context, "source", device); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	for _, flag := range []string{"ro", "norecovery"} {
		if err := unix.FsconfigSetFlag(context, flag); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, err
	}
	attributes := unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOATIME
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", err)
	}
	return os.NewFile(uintptr(fd), device), nil
}
