// This file owns the two disks: telling a disk from a placeholder, and mounting it.
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
	// ext4MagicAt is the place of the magic number on the disk.
	ext4MagicAt = 1024 + 56
	// resizeDeadline is how long the kernel may take to hear of a disk's new size after a restore.
	resizeDeadline = 2 * time.Second
)

// errPlaceholder says that no disk was attached, or an empty one.
var errPlaceholder = errors.New("no file system on it: is a disk attached?")

func mountBase(fstype string) error {
	if err := checkMagic(baseDevice, 0, squashfsMagic); err != nil {
		return err
	}
	return unix.Mount(baseDevice, basePlace, fstype, unix.MS_RDONLY|unix.MS_NOATIME, "")
}

// mountExt4 mounts a disk. The kernel hears of a size that changed with a restore a little later: until then the file
// system seems larger than its disk, which is EINVAL.
func mountExt4(device, place string) error {
	if err := checkMagic(device, ext4MagicAt, ext4Magic); err != nil {
		return err
	}
	for deadline := time.Now().Add(resizeDeadline); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Mount(device, place, "ext4", unix.MS_NOATIME, "")
		if !errors.Is(err, unix.EINVAL) || time.Now().After(deadline) {
			return err
		}
	}
}

// checkMagic drops what the kernel remembers of the device from before it was attached, and looks for magic.
func checkMagic(device string, at int64, magic string) error {
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.BLKFLSBUF, 0); errno != 0 {
		return fmt.Errorf("BLKFLSBUF: %w", errno)
	}
	found := make([]byte, len(magic))
	if _, err := file.ReadAt(found, at); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if !bytes.Equal(found, []byte(magic)) {
		return errPlaceholder
	}
	return nil
}
