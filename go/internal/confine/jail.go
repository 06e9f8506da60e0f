// This file owns confinement by Firecracker's jailer, where the launcher is root: what the jailer needs around it, and
// where the jail is.

package confine

import (
	"path/filepath"
	"strconv"
)

const (
	// The jailer puts the jail below a directory of the program's name; it takes no other name than this.
	jailedProgram = "/firecracker"
	jailer        = "/jailer"
	jailID        = "vm"
	// jailFiles is how many files the VMM may have open: what the stage allows.
	jailFiles = 1024
)

// jailCapabilities are the jailer's while it makes the jail. The VMM itself, of another user, has none.
var jailCapabilities = []string{"chown", "dac_override", "fowner", "mknod", "setgid", "setuid", "sys_admin"}

// sandboxCapabilities are what bwrap needs beside those, without a user namespace: it brings up the loopback device.
var sandboxCapabilities = []string{"net_admin", "setpcap", "sys_ptrace"}

// JailRoot is the directory that becomes the VMM's root, in the microVM's directory.
func JailRoot(directory string) string {
	return filepath.Join(directory, jailedProgram, jailID, "root")
}

// jailCommand starts the jailer where it finds nothing but itself, the VMM and the microVM's directory, in namespaces
// that end with it. There is no user namespace: in one it could make neither devices nor users.
func (s Sandbox) jailCommand() []string {
	id := strconv.FormatUint(uint64(s.UID), 10)
	bounds := "-all"
	for _, capability := range append(append([]string{}, jailCapabilities...), sandboxCapabilities...) {
		bounds += ",+" + capability
	}
	line := []string{
		s.Tools.Setpriv, "--inh-caps=-all", "--bounding-set=" + bounds, "--no-new-privs", "--pdeathsig=KILL", "--",
		s.Tools.Bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--die-with-parent", "--new-session", "--clearenv", "--setenv", "LC_ALL", "C.UTF-8", "--cap-drop", "ALL",
	}
	for _, capability := range jailCapabilities {
		line = append(line, "--cap-add", "cap_"+capability)
	}
	line = append(line,
		"--json-status-fd", strconv.Itoa(s.StatusFD), "--block-fd", strconv.Itoa(s.BlockFD),
		"--ro-bind", s.Program, jailedProgram, "--ro-bind", s.Jailer, jailer, "--proc", "/proc",
		// With devices: the jailer makes those of the VMM in there.
		"--dev-bind", s.Directory, Inside)
	for _, file := range s.Named {
		line = append(line, file.bind(JailRoot(Inside))...)
	}
	line = append(line, "--chdir", "/", "--remount-ro", "/", "--",
		jailer, "--id", jailID, "--exec-file", jailedProgram, "--uid", id, "--gid", id, "--chroot-base-dir", Inside,
		"--resource-limit", "no-file="+strconv.Itoa(jailFiles), "--")
	return append(line, s.Args...)
}
