// This file owns the stage: the launcher's own program, run once between fork and exec, where it sets on itself what
// cannot be set from outside without a race.

package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// StageName is the first argument that makes the launcher's program the stage.
const StageName = "exec-stage"

// StageArgs is the command line of the stage, its argv[0] included.
//
// parent is the process that must still be there. reportFD is a descriptor that is closed by a successful exec of
// command, and on which the stage writes why it failed otherwise. directory becomes the present one. jail is a directory
// in which devices can be opened and programs executed, for this process and what comes of it; empty for none. cgroups
// are files to write the process into. openFiles is how many files it may have open.
func StageArgs(parent, reportFD int, directory, jail string, openFiles int, cgroups, command []string) []string {
	args := []string{
		"pyro-launch", StageName, strconv.Itoa(parent), strconv.Itoa(reportFD), directory, jail, strconv.Itoa(openFiles),
		strings.Join(cgroups, "\n"),
	}
	return append(args, command...)
}

// Stage runs the stage with what follows StageName on the command line. It returns only when it failed, the exit
// status.
func Stage(args []string) int {
	if len(args) < 7 {
		return 125
	}
	parent, err1 := strconv.Atoi(args[0])
	reportFD, err2 := strconv.Atoi(args[1])
	openFiles, err3 := strconv.ParseUint(args[4], 10, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return 125
	}
	err := stage(parent, reportFD, args[2], args[3], openFiles, args[5], args[6:])
	report := os.NewFile(uintptr(reportFD), "report")
	fmt.Fprint(report, err)
	return 125
}

func stage(parent, reportFD int, directory, jail string, openFiles uint64, cgroups string, command []string) error {
	if _, err := unix.FcntlInt(uintptr(reportFD), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("report descriptor: %w", err)
	}
	// The parent-death signal was set at the fork; a parent that died before that is noticed here.
	if os.Getppid() != parent {
		return errors.New("the launcher has gone")
	}
	for _, file := range strings.Split(cgroups, "\n") {
		if file == "" {
			continue
		}
		// A limit that cannot be kept is told by the launcher, which looks whether the group has this process.
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			fmt.Fprintf(os.Stderr, "join %s: %v\n", file, err)
		}
	}
	if jail != "" {
		if err := allowDevices(jail); err != nil {
			return fmt.Errorf("jail: %w", err)
		}
	}
	if err := os.Chdir(directory); err != nil {
		return err
	}
	// When memory runs out, VMMs go first.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return fmt.Errorf("oom_score_adj: %w", err)
	}
	// Huge pages for what QEMU asks them for, its translated code and its tables, are 3 MB more for each idle VMM, and
	// nothing that was measured is quicker with them. A guest's memory has none: it is mapped from a template. A kernel
	// that was built without them has nothing to switch off.
	_ = unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	if err := limit(syscall.RLIMIT_CORE, 0); err != nil {
		return fmt.Errorf("limit core: %w", err)
	}
	if err := limit(syscall.RLIMIT_NOFILE, openFiles); err != nil {
		return fmt.Errorf("limit open files: %w", err)
	}
	err := syscall.Exec(command[0], command, []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"})
	return fmt.Errorf("exec %s: %w", command[0], err)
}

// allowDevices makes a directory one where devices and programs work, in a mount namespace of this process: /tmp forbids
// one or the other on many hosts, and Firecracker's jailer makes its devices, and its copy of the program, in the jail.
func allowDevices(directory string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(directory, &stat); err != nil {
		return fmt.Errorf("statfs %s: %w", directory, err)
	}
	if stat.Flags&(unix.ST_NODEV|unix.ST_NOEXEC) == 0 {
		return nil
	}
	// The namespace is the thread's, and this thread's is the one that the exec keeps.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts apart: %w", err)
	}
	if err := unix.Mount(directory, directory, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", directory, err)
	}
	if err := unix.Mount("", directory, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("allow devices in %s: %w", directory, err)
	}
	return nil
}

// limit lowers a limit. It uses package syscall, whose Exec would otherwise put back the limit on open files that the
// Go runtime found at its start.
func limit(resource int, value uint64) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(resource, &now); err != nil {
		return err
	}
	value = min(value, now.Max)
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value})
}
