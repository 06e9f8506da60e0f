// This file owns the staging of one transfer: a tree on the disk of the workspace, outside of the root, that holds
// everything before anything is put in its place.
//
// The workspace's own programs may be root and do what they like to it meanwhile. Nothing here waits for what they could
// put there, and nothing is followed: who meddles has his own workspace to blame.
package transfer

import (
	"errors"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// permissions are the bits that open and mkdir give as they are told; the others need a call of their own.
	permissions = 0o777
	allModes    = 0o7777
	// impliedMode is that of a directory that no entry describes.
	impliedMode = 0o755
	// directoryBytes is what a directory takes in memory beside its path.
	directoryBytes = 128
)

// directory is one of the staged ones.
type directory struct {
	mode uint32
	// made is the mode it was made with.
	made    uint32
	modTime time.Time
	// described by an entry; without one its mode and time are nobody's wish. parent: something is in it.
	described, parent bool
}

// stage is the staged tree. Names in it are relative to its top.
type stage struct {
	// top is a descriptor of the tree.
	top int
	// current is a descriptor of the directory that was used last, -1 for none: entries of a directory come together.
	current     int
	currentPath string
	directories map[string]*directory
	// memory is shared by all transfers and counts what directories take; left is how much of it there is.
	memory *atomic.Int64
	taken  int64
}

func newStage(top int, memory *atomic.Int64) *stage {
	return &stage{top: top, current: -1, directories: map[string]*directory{}, memory: memory}
}

func (s *stage) close() {
	s.leave()
	unix.Close(s.top)
	s.memory.Add(s.taken)
	s.taken, s.directories = 0, nil
}

func (s *stage) leave() {
	if s.current >= 0 {
		unix.Close(s.current)
		s.current = -1
	}
}

// enter returns a descriptor of a directory, made with all above it where they are missing. It is good until the next.
func (s *stage) enter(path string) (int, error) {
	if path == "" {
		return s.top, nil
	}
	if s.current >= 0 && s.currentPath == path {
		return s.current, nil
	}
	known := s.directories[path]
	if known == nil {
		var err error
		if known, err = s.imply(path); err != nil {
			return -1, err
		}
	}
	known.parent = true
	s.leave()
	fd, err := openDirectory(s.top, path)
	if err != nil {
		return -1, failed("open", path, err)
	}
	s.current, s.currentPath = fd, path
	return fd, nil
}

// imply makes a directory that is only known from what is in it.
func (s *stage) imply(path string) (*directory, error) {
	above, _ := split(path)
	if above != "" {
		parent := s.directories[above]
		if parent == nil {
			var err error
			if parent, err = s.imply(above); err != nil {
				return nil, err
			}
		}
		parent.parent = true
	}
	return s.make(path, &directory{mode: impliedMode})
}

// make makes a directory below one that is there.
func (s *stage) make(path string, d *directory) (*directory, error) {
	cost := int64(len(path) + directoryBytes)
	if s.memory.Add(-cost) < 0 {
		s.memory.Add(cost)
		return nil, refuse(Limit, "the archive has more directories than the guest's memory holds")
	}
	s.taken += cost
	d.made = d.mode & permissions
	for {
		err := unix.Mkdirat(s.top, path, d.made)
		if err == nil {
			s.directories[path] = d
			return d, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return nil, failed("make the directory", path, err)
		}
		// An entry of another kind that came before.
		var stat unix.Stat_t
		if err := unix.Fstatat(s.top, path, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, failed("stat", path, err)
		}
		if !d.described && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil, refuseEntry(Outside, path, "is a symbolic link in the archive, and other entries lead through it")
		}
		return nil, refuseEntry(Archive, path, "is a directory and something else in the same archive")
	}
}

// describe takes an entry of a directory.
func (s *stage) describe(path string, mode uint32, modTime time.Time) error {
	if known := s.directories[path]; known != nil {
		known.mode, known.modTime, known.described = mode, modTime, true
		return nil
	}
	above, _ := split(path)
	if _, err := s.enter(above); err != nil {
		return err
	}
	_, err := s.make(path, &directory{mode: mode, modTime: modTime, described: true})
	return err
}

// place calls create for a name, again when an earlier entry of the same name had to give way: the last one counts.
func (s *stage) place(path string, create func(directory int, name string) error) error {
	above, name := split(path)
	fd, err := s.enter(above)
	if err != nil {
		return err
	}
	for range 3 {
		if err = create(fd, name); !errors.Is(err, unix.EEXIST) {
			break
		}
		if s.directories[path] != nil {
			return refuseEntry(Archive, path, "is a directory and something else in the same archive")
		}
		if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return failed("replace", path, err)
		}
	}
	if err != nil {
		return failed("make", path, err)
	}
	return nil
}

// settle gives the directories their modes and times, when nothing more is made in them. One that is there already in the
// workspace has them from the commit.
func (s *stage) settle() error {
	for path, d := range s.directories {
		if d.mode != d.made {
			if err := unix.Fchmodat(s.top, path, d.mode, 0); err != nil {
				return failed("set the mode of", path, err)
			}
		}
		if d.described {
			if err := setTime(s.top, path, d.modTime); err != nil {
				return failed("set the time of", path, err)
			}
		}
	}
	return nil
}

// setTime sets the modification time of a name, of a link itself.
func setTime(directory int, name string, modTime time.Time) error {
	times := timesOf(modTime)
	return unix.UtimesNanoAt(directory, name, times[:], unix.AT_SYMLINK_NOFOLLOW)
}

// setFileTime sets the modification time of an open file.
func setFileTime(fd int, modTime time.Time) error {
	times := timesOf(modTime)
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func timesOf(modTime time.Time) [2]unix.Timespec {
	return [2]unix.Timespec{
		{Nsec: unix.UTIME_OMIT},
		{Sec: modTime.Unix(), Nsec: int64(modTime.Nanosecond())},
	}
}

// makeStaging makes a directory that only root looks into, in a directory of all transfers, on the disk.
func makeStaging(disk int, name string) (fd int, err error) {
	// Whoever clears the last staging takes the directory of all away.
	for range 10 {
		if fd, err = tryStaging(disk, name); !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	if err != nil {
		return -1, failed("make", stagings, err)
	}
	return fd, nil
}

func tryStaging(disk int, name string) (int, error) {
	if err := unix.Mkdirat(disk, stagings, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	all, err := openDirectory(disk, stagings)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		// The workspace's programs put something in its place.
		if err := unix.Unlinkat(disk, stagings, 0); err != nil {
			return -1, err
		}
		return -1, unix.ENOENT
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(all)
	if err := unix.Mkdirat(all, name, 0o700); err != nil {
		return -1, err
	}
	return openDirectory(all, name)
}

// openDirectory opens a directory of the same mount and nothing else.
func openDirectory(at int, path string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(at, path, &how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return -1, err
		}
	}
}
