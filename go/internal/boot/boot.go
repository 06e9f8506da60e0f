// Package boot owns what happens in the microVM before guestd can be reached: the first mounts, the modules, and the
// console that tells how far it came.
package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stage prints how far the boot has come.
func Stage(name string) { Report("stage %s", name) }

// Report prints one line to the console.
func Report(format string, args ...any) {
	// The console is all there is: its own failure has nowhere to go.
	_, _ = fmt.Fprintf(os.Stderr, "guestd: "+format+"\n", args...)
}

// Fatal prints what failed and powers the microVM off, so that the host sees it end. It does not return.
func Fatal(stage string, err error) {
	var errno unix.Errno
	if errors.As(err, &errno) {
		Report("fatal: stage %s: %v (errno %d)", stage, err, int(errno))
	} else {
		Report("fatal: stage %s: %v", stage, err)
	}
	PowerOff()
}

// PowerOff ends the microVM. It does not return.
func PowerOff() {
	unix.Sync()
	// The console is written out by the time this is over.
	time.Sleep(50 * time.Millisecond)
	if !endsByReset() {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	for {
		time.Sleep(time.Hour)
	}
}

// endsByReset tells a machine without a power switch, which the host then says on the kernel's command line: told to
// switch itself off, it would only stand still.
func endsByReset() bool {
	line, err := os.ReadFile("/proc/cmdline")
	return err == nil && slices.Contains(strings.Fields(string(line)), "reboot=k")
}

// FirstMounts mounts what guestd itself needs and makes the console its output.
func FirstMounts() error {
	mounts := []struct{ fstype, target string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}}
	for _, mount := range mounts {
		if err := os.MkdirAll(mount.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(mount.fstype, mount.target, mount.fstype, unix.MS_NOSUID, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", mount.target, err)
		}
	}
	console, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		// A machine without a console runs all the same; descriptors 0 to 2 must not become something else.
		if console, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open /dev/null: %w", err)
		}
	}
	for target := range 3 {
		if console == target {
			continue
		}
		if err := unix.Dup3(console, target, 0); err != nil {
			return fmt.Errorf("console: %w", err)
		}
	}
	return nil
}

// workingSetTime is for how long what is in use must stay in memory, ms, or something is killed to make room.
const workingSetTime = "1000"

// PreferTheEnd makes the kernel kill a process when memory is gone, rather than take the programs' own pages away and
// read them again from the base image, over and over: under that a microVM was seen to do nothing else for minutes. A
// limit on the processes' cgroup does the opposite, as a cgroup's own shortage knows no such bound.
func PreferTheEnd() {
	for _, setting := range [][2]string{{"enabled", "y"}, {"min_ttl_ms", workingSetTime}} {
		if err := os.WriteFile("/sys/kernel/mm/lru_gen/"+setting[0], []byte(setting[1]), 0); err != nil {
			Report("short of memory this machine may be slow to kill: %v", err)
			return
		}
	}
}

// LoadModules loads the kernel modules of directory in the order its file "order" names them, one a line, and then
// deletes them: their memory is part of every template. A missing directory means that the kernel has all it needs.
func LoadModules(directory string) error {
	order, err := os.ReadFile(filepath.Join(directory, "order"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range strings.Lines(string(order)) {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if err := loadModule(filepath.Join(directory, filepath.Base(name))); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return os.RemoveAll(directory)
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
