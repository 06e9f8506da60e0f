// This file owns the file systems of the outer guest: its root, and the images that a run brings along.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The drives, in their fixed order.
const (
	rootDevice = "/dev/vda"
	diskDevice = "/dev/vdb"
	// The others are images of a run. In the frozen guest there is nothing on them.
	imageDevices = "/dev/vd%c"
)

const (
	newRoot = "/new"
	// diskPlace is where the writable disk is, in the new root.
	diskPlace  = "/lab/disk"
	imagePlace = "/lab/image-"
	programBin = newRoot + "/usr/local/bin"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

func mountAll(mounts []mount) error {
	for _, mount := range mounts {
		if err := mount.do(); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot joins the image and the writable disk, puts everything in its place and makes it the root.
func enterRoot(deadline time.Time) error {
	for _, device := range []string{rootDevice, diskDevice} {
		if err := await(device, deadline); err != nil {
			return err
		}
	}
	const lower, disk = "/lower", newRoot + diskPlace
	if err := mountAll([]mount{
		{rootDevice, lower, "squashfs", unix.MS_RDONLY, ""},
		{diskDevice, "/disk", "ext4", unix.MS_NOATIME, ""},
	}); err != nil {
		return err
	}
	for _, directory := range []string{"upper", "work", "tmp", "var-tmp", "home", "root"} {
		if err := os.Mkdir("/disk/"+directory, 0o755); err != nil {
			return err
		}
	}
	for directory, mode := range map[string]os.FileMode{"tmp": 0o777 | os.ModeSticky, "var-tmp": 0o777 | os.ModeSticky, "root": 0o700} {
		if err := os.Chmod("/disk/"+directory, mode); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{
		{"overlay", newRoot, "overlay", 0, "lowerdir=" + lower + ",upperdir=/disk/upper,workdir=/disk/work"},
		{"/disk", disk, "", unix.MS_MOVE, ""},
		// Where programs write much they find ext4 itself.
		{disk + "/tmp", newRoot + "/tmp", "", unix.MS_BIND, ""},
		{disk + "/var-tmp", newRoot + "/var/tmp", "", unix.MS_BIND, ""},
		{disk + "/home", newRoot + "/home", "", unix.MS_BIND, ""},
		{disk + "/root", newRoot + "/root", "", unix.MS_BIND, ""},
		{"proc", newRoot + "/proc", "proc", 0, ""},
		{"sysfs", newRoot + "/sys", "sysfs", 0, ""},
		{"cgroup2", newRoot + "/sys/fs/cgroup", "cgroup2", 0, ""},
		{"devtmpfs", newRoot + "/dev", "devtmpfs", 0, ""},
		{"devpts", newRoot + "/dev/pts", "devpts", 0, "gid=5,mode=0620,ptmxmode=0666"},
		{"tmpfs", newRoot + "/dev/shm", "tmpfs", 0, "mode=1777"},
		{"tmpfs", newRoot + "/run", "tmpfs", 0, "mode=0755"},
	}); err != nil {
		return err
	}
	if err := os.WriteFile(newRoot+"/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu +memory +pids +io"), 0); err != nil {
		return err
	}
	for at, to := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+to, newRoot+"/dev/"+at); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := copyPrograms(); err != nil {
		return err
	}
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// await waits for a device to show up.
func await(device string, deadline time.Time) error {
	for {
		_, err := os.Stat(device)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func copyPrograms() error {
	entries, err := os.ReadDir(programs)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(programs, entry.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(programBin, entry.Name()), data, 0o755); err != nil {
			return err
		}
	}
	return os.RemoveAll(programs)
}

// place is something of a run's image that is to appear in the root: a directory with a layer of its own above it, so
// that it can be written to, or a copy of a file.
type place struct {
	// Image is the number of the image among those of the run, from 0.
	Image int `json:"image"`
	// From is a path in the image, To one in the root.
	From string `json:"from"`
	To   string `json:"to"`
}

// fill makes it so. index tells places of a run apart.
func (p *place) fill(index int, table *children) error {
	image := imagePlace + strconv.Itoa(p.Image)
	if _, err := os.Stat(image); errors.Is(err, os.ErrNotExist) {
		if err := mountImage(p.Image, image); err != nil {
			return err
		}
	}
	from := filepath.Join(image, p.From)
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if err := os.MkdirAll(filepath.Dir(p.To), 0o755); err != nil {
			return err
		}
		return table.run("cp", "--archive", "--sparse=always", "--no-target-directory", "--", from, p.To)
	}
	layer := diskPlace + "/layer-" + strconv.Itoa(index)
	for _, directory := range []string{layer, layer + "/upper", layer + "/work"} {
		if err := os.Mkdir(directory, info.Mode().Perm()); err != nil {
			return err
		}
	}
	stat, err := statOf(from)
	if err != nil {
		return err
	}
	if err := os.Chown(layer+"/upper", int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	// A change of owner or mode copies no data.
	options := "redirect_dir=on,metacopy=on,lowerdir=" + from + ",upperdir=" + layer + "/upper,workdir=" + layer + "/work"
	return mount{"overlay", p.To, "overlay", 0, options}.do()
}

func statOf(path string) (*unix.Stat_t, error) {
	var stat unix.Stat_t
	return &stat, unix.Stat(path, &stat)
}

// mountImage mounts what the drive has since the thaw. What the kernel remembers of it is from before.
func mountImage(number int, at string) error {
	device := fmt.Sprintf(imageDevices, 'c'+rune(number))
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.BLKFLSBUF, 0); errno != 0 {
		return fmt.Errorf("%s: BLKFLSBUF: %w", device, errno)
	}
	return mount{device, at, "squashfs", unix.MS_RDONLY, ""}.do()
}
