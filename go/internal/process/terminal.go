// This file owns the terminal of a process: a pty whose other end is opened without a look at the guest's /dev/pts.
package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const typedEndOfFile = 0x04

// openTerminal returns the master, which does not block, and the slave, which does.
func openTerminal(size Size) (master *os.File, slave int, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("terminal: open /dev/ptmx: %w", err)
	}
	fail := func(what string, err error) (*os.File, int, error) {
		unix.Close(fd)
		return nil, -1, fmt.Errorf("terminal: %s: %w", what, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fail("unlock", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fail("open", errno)
	}
	slave = int(peer)
	if err := setSize(fd, size); err != nil {
		unix.Close(slave)
		return fail("size", err)
	}
	return os.NewFile(uintptr(fd), "terminal"), slave, nil
}

func setSize(fd int, size Size) error {
	if size.Columns == 0 {
		size.Columns = 80
	}
	if size.Rows == 0 {
		size.Rows = 24
	}
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: size.Columns, Row: size.Rows})
}

// foregroundGroup is the process group that a key would interrupt, 0 when there is none.
func foregroundGroup(master *os.File) int {
	group := 0
	_ = control(master, func(fd int) error {
		found, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err == nil {
			group = found
		}
		return err
	})
	return group
}

// control calls f with file's descriptor, which stays open for as long.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
