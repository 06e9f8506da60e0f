// This file owns how netd is shut in: it makes connections of the host's, and has nothing else of the host but its list of authorities.

package confine

import "strconv"

// netdInside is where netd sees its own program.
const netdInside = "/netd"

// authorities are where systems keep the list of those that sign for hosts, as Go's library looks for it.
var authorities = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// Netd is one confined netd.
type Netd struct {
	Tools Tools
	// UID and GID of its own where the launcher is root; 0 keeps the launcher's own user.
	UID uint32
	// StatusFD is bwrap's end of the pipe by which it says which process it started, ProgramFD the program's file.
	StatusFD, ProgramFD int
	Args                []string
}

// Command is the whole command line, its program first. The network namespace is that of whoever runs it; the program is
// copied into the sandbox, as the user of its own may have no way to where it lies.
func (n Netd) Command() []string {
	var line []string
	if n.UID != 0 {
		id := strconv.FormatUint(uint64(n.UID), 10)
		line = append(line, n.Tools.Setpriv, "--reuid="+id, "--regid="+id, "--clear-groups", "--inh-caps=-all",
			"--bounding-set=-all", "--no-new-privs", "--pdeathsig=KILL", "--")
	}
	line = append(line, n.Tools.Bwrap,
		"--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
		"--json-status-fd", strconv.Itoa(n.StatusFD),
		"--perms", "0555", "--file", strconv.Itoa(n.ProgramFD), netdInside)
	for _, path := range authorities {
		line = append(line, "--ro-bind-try", path, path)
	}
	line = append(line,
		"--proc", "/proc", "--dev", "/dev", "--chdir", "/", "--remount-ro", "/", "--", netdInside)
	return append(line, n.Args...)
}

// EnterNetwork puts a command into a network namespace. Errors: ErrTool.
func EnterNetwork(namespace string, command []string) ([]string, error) {
	if namespace == "" {
		return command, nil
	}
	nsenter, err := find("nsenter")
	if err != nil {
		return nil, err
	}
	return append([]string{nsenter, "--net=" + namespace, "--"}, command...), nil
}
