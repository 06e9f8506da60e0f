// This file owns what the kernel provides: its file systems, the devices, the cgroup tree and the loopback.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

type kernelMount struct {
	target, fstype, data string
	flags                uintptr
}

const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// kernelMounts stand in the order they are mounted in.
var kernelMounts = []kernelMount{
	{"/proc", "proc", "", plain},
	{"/sys", "sysfs", "", plain | unix.MS_RDONLY},
	{CgroupRoot, "cgroup2", "", plain},
	{"/dev", "devtmpfs", "mode=0755", unix.MS_NOSUID},
	{"/dev/pts", "devpts", "newinstance,gid=5,mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	{"/run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
}

// kernelTrees are the topmost of them: what is mounted below moves along.
var kernelTrees = []string{"/proc", "/sys", "/dev", "/run"}

func (m *kernelMount) below(root string) error {
	// sysfs has its own directories.
	if m.target != CgroupRoot {
		if err := makeDirectories(root, m.target); err != nil {
			return err
		}
	}
	return unix.Mount(m.fstype, root+m.target, m.fstype, m.flags, m.data)
}

// finishDevices adds what devtmpfs does not make by itself.
func finishDevices(root string) error {
	links := [][2]string{
		{"/proc/self/fd", "/dev/fd"},
		{"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"},
	}
	for _, link := range links {
		if err := os.Symlink(link[0], root+link[1]); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.Mkdir(root+"/run/lock", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return os.Chmod(root+"/run/lock", 0o777|os.ModeSticky)
}

// delegate makes the directory for the processes' cgroups and hands it the controllers there are.
func delegate(root string) error {
	if err := os.Mkdir(root+Cgroups, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, directory := range []string{root + CgroupRoot, root + Cgroups} {
		there, err := os.ReadFile(directory + "/cgroup.controllers")
		if err != nil {
			return err
		}
		for _, controller := range []string{"cpu", "memory", "pids"} {
			if !strings.Contains(" "+strings.TrimSpace(string(there))+" ", " "+controller+" ") {
				continue
			}
			if err := os.WriteFile(directory+"/cgroup.subtree_control", []byte("+"+controller), 0); err != nil {
				return fmt.Errorf("%s: %w", controller, err)
			}
		}
	}
	return nil
}

// raiseLoopback brings lo up; the kernel gives it its addresses.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}
