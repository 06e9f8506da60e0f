// This file owns the disks: telling a disk from a placeholder, and mounting it.
package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	squashfsMagic = "hsqs"
	ext4Magic     = "\x53\xef"
	// ext4Options: the host has made all tables of the disk, and they are read when they are needed. Otherwise the kernel
	// starts a thread that makes the bitmaps of every group in memory, 1 MB of it for 16 GiB that are empty.
	ext4Options = "noinit_itable,no_prefetch_block_bitmaps,inode_readahead_blks=0"
	// ext4MagicAt is the place of the magic number on the disk.
	ext4MagicAt = 1024 + 56
	// resizeDeadline is how long the kernel may take to hear of a disk's new size after a restore.
	resizeDeadline = 2 * time.Second
)

// errPlaceholder says that no disk was attached, or an empty one.
var errPlaceholder = errors.New("no file system on it: is a disk attached?")

func mountBase(fstype string) error {
	return explain(mountDisk(baseDevice, basePlace, fstype, unix.MS_RDONLY|unix.MS_NOATIME, ""), baseDevice, 0, squashfsMagic)
}

// mountExt4 waits for the size: the kernel hears of it a moment after the restore, and a file system that is larger than
// its device cannot be mounted.
func mountExt4(device, place string) error {
	return waitForSize(func() error {
		return explain(mountDisk(device, place, "ext4", unix.MS_NOATIME, ext4Options), device, ext4MagicAt, ext4Magic)
	})
}

// waitForSize mounts again as long as that may be for want of the size.
func waitForSize(mount func() error) error {
	for deadline := time.Now().Add(resizeDeadline); ; time.Sleep(5 * time.Millisecond) {
		err := mount()
		if !errors.Is(err, unix.EINVAL) || time.Now().After(deadline) {
			return err
		}
	}
}

// mountDisk drops what the kernel remembers of the device from before it was attached, and mounts it.
func mountDisk(device, place, fstype string, flags uintptr, options string) error {
	if err := forget(device); err != nil {
		return err
	}
	return unix.Mount(device, place, fstype, flags, options)
}

// forget drops what the kernel remembers of a device.
func forget(device string) error {
	file, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(file), unix.BLKFLSBUF, 0)
	unix.Close(file)
	if errno != 0 {
		return fmt.Errorf("BLKFLSBUF: %w", errno)
	}
	return nil
}

// explain tells a placeholder from a file system that the kernel did not want for another reason. Only then it looks: a
// mount that succeeds is the rule, and every start pays for what is done before it.
func explain(err error, device string, at int64, magic string) error {
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	file, failure := os.Open(device)
	if failure != nil {
		return failure
	}
	defer file.Close()
	found := make([]byte, len(magic))
	if _, failure := file.ReadAt(found, at); failure != nil {
		return fmt.Errorf("reading: %w", failure)
	}
	if !bytes.Equal(found, []byte(magic)) {
		return errPlaceholder
	}
	return err
}
