// Package rootfs makes the disks the root of the microVM: base below, writable above, joined by overlayfs, with the
// kernel's file systems in their places; and lets go of them at the end.
//
// This file owns the order of the mounts and the move into the new root.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The drives of a microVM, in their fixed order.
const (
	baseDevice     = "/dev/vda"
	writableDevice = "/dev/vdb"
)

// CgroupRoot is where the cgroup v2 tree is once the root is mounted.
const CgroupRoot = "/sys/fs/cgroup"

// Cgroups is the directory below which processes get their cgroups.
const Cgroups = CgroupRoot + "/pyro"

// Places in the initramfs that the parts of the root are mounted on before the move.
const (
	basePlace     = "/mnt/base"
	writablePlace = "/mnt/writable"
	rootPlace     = "/mnt/root"
	kernelPlace   = "/mnt/kernel"
)

// Error is a failed step of the mount.
type Error struct {
	Stage string
	Err   error
}

func (e *Error) Error() string { return e.Stage + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// ErrBaseType is returned for a base file system that guestd does not know.
var ErrBaseType = errors.New("base_type: only squashfs is known")

// Root is the mounted root.
type Root struct {
	// writable is the top of the writable disk, which has no path in the new root.
	writable *os.File
	// base is the top of the base, baseline the device of the baseline's disk: neither can be reached by a path.
	base, baseline *os.File
	// moved are the kernel's file systems that have left their place.
	moved []string
	// freezer holds the writable disk still.
	freezer freezer
}

// Upper is the directory of the writable disk whose names the root shows.
const Upper = "upper"

// Writable returns a descriptor of the top of the writable disk, which has no path in the root. It is good as long as r is.
func (r *Root) Writable() int { return int(r.writable.Fd()) }

// step is one named part of a longer piece of work.
type step struct {
	stage string
	do    func() error
}

// Prepare does what of a root needs no disk: the kernel's file systems, devices, cgroups and loopback. It belongs to the
// template, where it is done once for every restore: under emulation it is a third of what a root takes. Errors: *Error.
func Prepare() error {
	steps := []step{
		{"places", func() error { return makeDirectories("", basePlace, writablePlace, rootPlace, kernelPlace) }},
	}
	for _, mount := range kernelMounts {
		steps = append(steps, step{"mount " + mount.target, func() error { return mount.below(kernelPlace) }})
	}
	return run(append(steps,
		step{"/dev", func() error { return finishDevices(kernelPlace) }},
		step{"cgroups", func() error { return delegate(kernelPlace) }},
		step{"bounds", func() error { return bound(kernelPlace) }},
		step{"lo", raiseLoopback},
	))
}

// Mount mounts the disks and makes them the root of this process and all others, with what Prepare has made in its
// places. lay may put files onto the disk before it is joined with the base: it is given the root of the base and the
// directory that will lie over it. After an error nothing has changed for anyone, and it may be called again. Errors:
// ErrBaseType, *Error.
func Mount(baseType string, lay func(lower, upper string) error) (*Root, error) {
	if baseType != "squashfs" {
		return nil, ErrBaseType
	}
	root := &Root{}
	steps := []step{
		{"base disk " + baseDevice, func() error { return mountBase(baseType) }},
		{"writable disk " + writableDevice, root.mountWritable},
		{"baseline", root.keepBaseline},
		{"upper directory", makeUpper},
		{"first files", func() error { return lay(basePlace, writablePlace+"/"+Upper) }},
		{"overlay", mountOverlay},
	}
	for _, target := range kernelTrees {
		steps = append(steps, step{"move " + target, func() error { return root.move(target) }})
	}
	steps = append(steps,
		step{"/tmp", mountTmp},
		step{"/workspace", makeWorkspace},
		step{"switch root", switchRoot},
	)
	if err := run(steps); err != nil {
		root.undo()
		return nil, err
	}
	return root, nil
}

// run does the steps in order, up to the first that fails. Errors: *Error.
func run(steps []step) error {
	for _, step := range steps {
		if err := step.do(); err != nil {
			return &Error{step.stage, err}
		}
	}
	return nil
}

// move takes a tree of the kernel's file systems into the root, with all that is mounted below it.
func (r *Root) move(target string) error {
	if err := makeDirectories(rootPlace, target); err != nil {
		return err
	}
	if err := unix.Mount(kernelPlace+target, rootPlace+target, "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	r.moved = append(r.moved, target)
	return nil
}

// undo takes the mounts down again, so that Mount can start afresh.
func (r *Root) undo() {
	for _, file := range []*os.File{r.writable, r.base, r.baseline} {
		if file != nil {
			_ = file.Close()
		}
	}
	for _, target := range r.moved {
		_ = unix.Mount(rootPlace+target, kernelPlace+target, "", unix.MS_MOVE, "")
	}
	for _, place := range []string{rootPlace, writablePlace, basePlace} {
		// Detached with all that is mounted below.
		_ = unix.Unmount(place, unix.MNT_DETACH)
	}
}

func (r *Root) mountWritable() error {
	if err := mountExt4(writableDevice, writablePlace); err != nil {
		return err
	}
	var err error
	r.writable, err = os.Open(writablePlace)
	return err
}

func makeUpper() error {
	info, err := os.Stat(basePlace)
	if err != nil {
		return err
	}
	if err := makeDirectories(writablePlace, "/"+Upper, "/work"); err != nil {
		return err
	}
	// The upper directory's mode is that of the root.
	return os.Chmod(writablePlace+"/"+Upper, info.Mode().Perm())
}

func mountOverlay() error {
	// Said, not left to the kernel's configuration: a disk must mean the same under every kernel.
	return unix.Mount("overlay", rootPlace, "overlay", 0, "lowerdir="+basePlace+",upperdir="+writablePlace+
		"/"+Upper+",workdir="+writablePlace+"/work,index=off,metacopy=off,redirect_dir=off")
}

// mountTmp makes an empty /tmp of a directory of the writable disk.
func mountTmp() error {
	place := writablePlace + "/tmp"
	if err := os.RemoveAll(place); err != nil {
		return err
	}
	if err := os.Mkdir(place, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(place, 0o777|os.ModeSticky); err != nil {
		return err
	}
	target := rootPlace + "/tmp"
	if err := makeDirectories(rootPlace, "/tmp"); err != nil {
		return err
	}
	if err := unix.Mount(place, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "")
}

// makeWorkspace makes /workspace where it is missing; what the workspace's own programs made of it stays.
func makeWorkspace() error {
	err := os.Mkdir(rootPlace+"/workspace", 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// switchRoot makes rootPlace the root. All threads of this process share it, and every process comes from this one.
func switchRoot() error {
	if err := unix.Chdir(rootPlace); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return unix.Chdir("/")
}

// makeDirectories makes each path below prefix where it is missing. No link is followed: what an image or a workspace's
// own programs put there instead of a directory is in the way of what has to be mounted, and gives way.
func makeDirectories(prefix string, paths ...string) error {
	for _, path := range paths {
		at := prefix
		for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			at += "/" + part
			info, err := os.Lstat(at)
			if err == nil && info.IsDir() {
				continue
			}
			if err == nil {
				err = os.Remove(at)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err := os.Mkdir(at, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close makes the disks clean and read-only; every other process must have ended. What fails is reported, the rest is
// done all the same.
func (r *Root) Close() error {
	unix.Sync()
	var failed []error
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		failed = append(failed, fmt.Errorf("overlay read-only: %w", err))
	}
	// The disk has no path any more, but its descriptor leads to the mount.
	writable := fmt.Sprintf("/proc/self/fd/%d", r.writable.Fd())
	if err := unix.Mount("", writable, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		failed = append(failed, fmt.Errorf("writable disk read-only: %w", err))
	}
	unix.Sync()
	return errors.Join(failed...)
}
