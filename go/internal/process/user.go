// This file owns who a process runs as: the guest's own passwd and group files.
package process

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// databaseLimit bounds how much of /etc/passwd or /etc/group is read, bytes.
	databaseLimit = 4 << 20
	// groupsLimit is how many groups a process can have (NGROUPS_MAX).
	groupsLimit = 65536
)

type identity struct {
	name     string
	home     string
	uid, gid uint32
	groups   []uint32
}

// lookupUser resolves name, uid, name:group or uid:gid below root. A uid without an entry is allowed and has group 0.
// With a group there are no supplementary ones.
func lookupUser(root, user string) (*identity, error) {
	name, group, withGroup := strings.Cut(user, ":")
	if name == "" || (withGroup && group == "") {
		return nil, refuse(ErrInvalid, "user: %q is not name, uid, name:group or uid:gid", user)
	}
	who, err := passwdEntry(root+"/etc/passwd", name)
	if err != nil {
		return nil, err
	}
	if who == nil {
		uid, err := number(name)
		if err != nil {
			return nil, refuse(ErrNotFound, "user: no user %q in the guest", name)
		}
		who = &identity{name: name, home: "/", uid: uid}
	}
	err = eachLine(root+"/etc/group", func(fields []string) bool {
		if len(fields) < 4 {
			return true
		}
		gid, err := number(fields[2])
		if err != nil {
			return true
		}
		if withGroup {
			if fields[0] == group {
				who.gid, group = gid, ""
				return false
			}
			return true
		}
		for member := range strings.SplitSeq(fields[3], ",") {
			if member == who.name && gid != who.gid {
				who.groups = append(who.groups, gid)
				break
			}
		}
		return len(who.groups) < groupsLimit
	})
	if err != nil {
		return nil, err
	}
	if len(who.groups) == groupsLimit {
		return nil, refuse(ErrNotFound, "user: %q is in %d groups or more, which no process can be", user, groupsLimit)
	}
	if withGroup && group != "" {
		gid, err := number(group)
		if err != nil {
			return nil, refuse(ErrNotFound, "user: no group %q in the guest", group)
		}
		who.gid = gid
	}
	// As initgroups does.
	who.groups = append([]uint32{who.gid}, who.groups...)
	return who, nil
}

// passwdEntry finds a user by name, else by uid; nil when there is none.
func passwdEntry(path, name string) (*identity, error) {
	var byName, byID *identity
	err := eachLine(path, func(fields []string) bool {
		if len(fields) < 6 {
			return true
		}
		uid, uidErr := number(fields[2])
		gid, gidErr := number(fields[3])
		if uidErr != nil || gidErr != nil {
			return true
		}
		entry := &identity{name: fields[0], home: fields[5], uid: uid, gid: gid}
		if entry.home == "" {
			entry.home = "/"
		}
		if fields[0] == name {
			byName = entry
			return false
		}
		if byID == nil && fields[2] == name {
			byID = entry
		}
		return true
	})
	if byName != nil {
		return byName, err
	}
	return byID, err
}

// eachLine calls visit with the fields of each line until it returns false. A missing file has no lines. Anything but
// a regular file is refused, so that a pipe in its place cannot hold guestd up.
func eachLine(path string, visit func([]string) bool) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return refuse(ErrNotFound, "user: cannot read %s: %v", path, err)
	}
	defer unix.Close(fd)
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		return refuse(ErrNotFound, "user: %s is not a regular file", path)
	}
	lines := bufio.NewScanner(io.LimitReader(unpolled(fd), databaseLimit))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// No name or path has a zero byte, and no environment could hold it.
		if strings.ContainsRune(lines.Text(), 0) {
			continue
		}
		if !visit(strings.Split(lines.Text(), ":")) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return refuse(ErrNotFound, "user: cannot read %s: %v", path, err)
	}
	return nil
}

// unpolled reads a descriptor that does not block, and never waits: a link in the file's place may lead to something of
// the kernel that calls itself a regular file and has nothing to say yet.
type unpolled int

func (u unpolled) Read(buffer []byte) (int, error) {
	for {
		n, err := unix.Read(int(u), buffer)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// number parses a uid or gid; the highest means "none" to the kernel.
func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}

func (i *identity) credential() *syscall.Credential {
	return &syscall.Credential{Uid: i.uid, Gid: i.gid, Groups: i.groups}
}

// withHome adds HOME, USER and LOGNAME where env does not have them.
func (i *identity) withHome(env []string) []string {
	for _, entry := range [][2]string{{"HOME", i.home}, {"USER", i.name}, {"LOGNAME", i.name}} {
		if _, ok := getenv(env, entry[0]); !ok {
			env = append(env, entry[0]+"="+entry[1])
		}
	}
	return env
}
