// Package confine owns how a VMM is shut in: the sandbox's command line, the resource limits, and the small stage
// between the launcher's fork and the VMM's exec. It starts nothing itself.
package confine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrTool: a program that confinement needs is not installed. Its message starts with "tool: NAME".
var ErrTool = errors.New("tool")

// ErrKVM: /dev/kvm cannot be used by the confined VMM.
var ErrKVM = errors.New("kvm")

// Inside is where a confined VMM sees the directory it shares with the launcher.
const Inside = "/vm"

// Tools are the absolute paths of the programs that confinement uses. Setpriv is empty where it is not needed.
type Tools struct {
	Bwrap   string
	Setpriv string
}

// FindTools looks the tools up in PATH, and in the usual directories if PATH has them not. Errors: ErrTool.
func FindTools() (Tools, error) {
	var tools Tools
	var err error
	if tools.Bwrap, err = find("bwrap"); err != nil {
		return Tools{}, err
	}
	if os.Geteuid() == 0 {
		if tools.Setpriv, err = find("setpriv"); err != nil {
			return Tools{}, err
		}
	}
	return tools, nil
}

func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err == nil {
		return path, nil
	}
	for _, directory := range []string{"/usr/bin", "/usr/local/bin", "/bin"} {
		path = filepath.Join(directory, name)
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: %s is not installed", ErrTool, name)
}

// Sandbox is one confined VMM.
type Sandbox struct {
	Tools Tools
	// UID and GID of the VMM where the launcher is root; 0 keeps the launcher's own user.
	UID uint32
	// Directory is shared with the VMM, as /vm.
	Directory string
	// ReadOnly are host paths the VMM sees at the same place.
	ReadOnly []string
	KVM      bool
	// StatusFD and BlockFD are bwrap's ends of the two pipes by which it says how far it got.
	StatusFD, BlockFD int
	Program           string
	Args              []string
	// Named are files that appear in the VMM's present directory.
	Named []Named
	// Jailer confines the VMM in the place of a user namespace, where it is not empty.
	Jailer string
}

// Named is a host file with the name that a VMM has for it.
type Named struct {
	Path, Name string
	ReadOnly   bool
}

// bind is bwrap's argument for it, with the VMM's directory at place.
func (n Named) bind(place string) []string {
	how := "--bind"
	if n.ReadOnly {
		how = "--ro-bind"
	}
	return []string{how, n.Path, place + "/" + n.Name}
}

// Command is the whole command line, its program first.
func (s Sandbox) Command() ([]string, error) {
	if s.Jailer != "" {
		return s.jailCommand(), nil
	}
	var line []string
	if s.UID != 0 {
		groups := "--clear-groups"
		if s.KVM {
			gid, err := kvmGroup()
			if err != nil {
				return nil, err
			}
			if gid != 0 {
				groups = "--groups=" + strconv.Itoa(int(gid))
			}
		}
		id := strconv.FormatUint(uint64(s.UID), 10)
		// The change of user forgets the parent-death signal, so setpriv sets it once more, last of all.
		line = append(line, s.Tools.Setpriv, "--reuid="+id, "--regid="+id, groups, "--inh-caps=-all",
			"--bounding-set=-all", "--no-new-privs", "--pdeathsig=KILL", "--")
	}
	line = append(line, s.Tools.Bwrap,
		"--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
		"--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "LC_ALL", "C.UTF-8",
		"--cap-drop", "ALL",
		"--json-status-fd", strconv.Itoa(s.StatusFD), "--block-fd", strconv.Itoa(s.BlockFD))
	line = append(line, runtimeBinds()...)
	line = append(line, "--proc", "/proc", "--dev", "/dev")
	if s.KVM {
		line = append(line, "--dev-bind", "/dev/kvm", "/dev/kvm")
	}
	line = append(line, "--ro-bind", s.Program, s.Program)
	for _, path := range s.ReadOnly {
		line = append(line, "--ro-bind", path, path)
	}
	line = append(line, "--bind", s.Directory, Inside)
	for _, file := range s.Named {
		line = append(line, file.bind(Inside)...)
	}
	line = append(line, "--chdir", Inside, "--remount-ro", "/", "--", s.Program)
	return append(line, s.Args...), nil
}

// Reserved tells whether a path inside the sandbox is the sandbox's own and cannot be bound over.
func Reserved(path string) bool {
	for _, own := range []string{Inside, "/proc", "/dev"} {
		if path == own || strings.HasPrefix(path, own+"/") {
			return true
		}
	}
	return path == "/"
}

// runtimeBinds is what a dynamically linked QEMU needs to run: libraries, loader, firmware. What a distribution has
// not, or keeps elsewhere, is left out.
func runtimeBinds() []string {
	var binds []string
	for _, path := range []string{
		"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/etc/ld.so.cache",
		"/usr/share/seabios", "/usr/share/qemu", "/usr/share/ipxe", "/usr/lib/ipxe",
	} {
		binds = append(binds, "--ro-bind-try", path, path)
	}
	for _, path := range []string{"/lib", "/lib64"} {
		if target, err := os.Readlink(path); err == nil {
			binds = append(binds, "--symlink", target, path)
		} else {
			binds = append(binds, "--ro-bind-try", path, path)
		}
	}
	return binds
}

// kvmGroup is the group an unprivileged VMM must be in to use /dev/kvm; 0 when it needs none.
func kvmGroup() (uint32, error) {
	var stat unix.Stat_t
	if err := unix.Stat("/dev/kvm", &stat); err != nil {
		return 0, fmt.Errorf("%w: /dev/kvm: %w", ErrKVM, err)
	}
	switch {
	case stat.Mode&0o006 == 0o006:
		return 0, nil
	case stat.Mode&0o060 == 0o060 && stat.Gid != 0:
		return stat.Gid, nil
	}
	return 0, fmt.Errorf("%w: /dev/kvm (mode %04o, group %d) is closed to unprivileged users", ErrKVM, stat.Mode&0o7777, stat.Gid)
}
