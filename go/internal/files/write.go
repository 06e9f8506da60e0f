// This file owns putting a file in its place, whole: written beside, on the disk, and renamed.
package files

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// WriteLimit is how large a file is that is written or edited at once, bytes.
	WriteLimit = 16 << 20
	newFile    = 0o644
	newParent  = 0o755
)

// Written is what a write came to.
type Written struct {
	Info Info
	// Created: there was none before.
	Created bool
}

// Write makes a file, or puts another in the place of one that is there, which gives it its mode. A link that stays in the
// workspace is followed. Errors: *Refusal, that of ctx.
func (t *Tree) Write(ctx context.Context, id string, given, content []byte) (Written, error) {
	return change(ctx, &t.once, id, func() (Written, error) {
		name, err := relative(given)
		if err != nil {
			return Written{}, err
		}
		if len(content) > WriteLimit {
			return Written{}, refuse(Limit, name, "at most %d bytes are written at once", WriteLimit)
		}
		release, err := t.places.Hold(ctx)
		if err != nil {
			return Written{}, err
		}
		defer release()
		place, err := t.find(name, true)
		if err != nil {
			return Written{}, err
		}
		defer place.close()
		info, err := t.put(place, content)
		if err != nil {
			place.unmake()
			return Written{}, err
		}
		return Written{info, place.stat == nil}, nil
	})
}

// place is a name in a directory, where a file is or will be.
type place struct {
	// path as it was asked for, for messages and answers.
	path string
	// directory is -1 until it was found.
	directory int
	name      string
	// stat is of the file that is there, nil when there is none.
	stat *unix.Stat_t
	made []madeDirectory
}

type madeDirectory struct {
	above int
	name  string
}

func (p *place) close() {
	if p.directory >= 0 {
		unix.Close(p.directory)
	}
	for _, one := range p.made {
		unix.Close(one.above)
	}
}

// unmake removes the parents that were made, if nobody has used them since.
func (p *place) unmake() {
	for _, one := range slices.Backward(p.made) {
		if unix.Unlinkat(one.above, one.name, unix.AT_REMOVEDIR) != nil {
			return
		}
	}
}

// find returns where a file is, or would be. With parents it makes what is missing above it. Errors: *Refusal.
func (t *Tree) find(name string, parents bool) (*place, error) {
	if name == "" {
		return nil, needFile("", unix.S_IFDIR)
	}
	top, err := t.top()
	if err != nil {
		return nil, err
	}
	defer unix.Close(top)
	p := &place{path: name, directory: -1}
	found, err := p.look(top, name, parents)
	if err == nil && found {
		// The name is a link: what it leads to is what is meant.
		var settled string
		if settled, err = settle(top, name); err == nil {
			unix.Close(p.directory)
			p.directory = -1
			if found, err = p.look(top, settled, parents); err == nil && found {
				err = unix.ELOOP
			}
		}
	}
	if err == nil && p.stat != nil {
		err = needFile(name, p.stat.Mode)
	}
	if err != nil {
		p.unmake()
		p.close()
		return nil, obstacle(err, name)
	}
	return p, nil
}

// look opens the directory of a name and looks what is there; link says that it is a symbolic link.
func (p *place) look(top int, name string, parents bool) (link bool, err error) {
	above, base := split(name)
	if base == "" {
		return false, needFile(p.path, unix.S_IFDIR)
	}
	p.directory, err = follow(top, above, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) && parents {
		p.directory, err = p.makeParents(top, above)
	}
	if err != nil {
		return false, err
	}
	p.name = base
	var stat unix.Stat_t
	err = unix.Fstatat(p.directory, base, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		p.stat = nil
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p.stat = &stat
	return typeOf(stat.Mode) == Symlink, nil
}

// makeParents makes what is missing of a directory's path.
func (p *place) makeParents(top int, path string) (int, error) {
	parts := strings.Split(path, "/")
	at, err := unix.FcntlInt(uintptr(top), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for i, part := range parts {
		next, err := follow(top, strings.Join(parts[:i+1], "/"), unix.O_RDONLY|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(at, part, newParent); err == nil {
				if above, dupErr := unix.FcntlInt(uintptr(at), unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
					p.made = append(p.made, madeDirectory{above, part})
				}
				next, err = open(at, part, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
			}
		}
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// put writes a file and renames it into its place. Called with the workspace held.
func (t *Tree) put(p *place, content []byte) (Info, error) {
	mode := uint32(newFile)
	if p.stat != nil {
		mode = p.stat.Mode & permissions
	}
	staged, err := t.places.NewFile(mode)
	if err != nil {
		return Info{}, obstacle(err, p.path)
	}
	defer staged.Drop()
	if _, err := staged.Write(content); err != nil {
		return Info{}, obstacle(err, p.path)
	}
	var stat unix.Stat_t
	if err := staged.Stat(&stat); err != nil {
		return Info{}, obstacle(err, p.path)
	}
	if err := staged.Close(); err != nil {
		return Info{}, obstacle(err, p.path)
	}
	if err := staged.Place(p.directory, p.name); err != nil {
		return Info{}, obstacle(err, p.path)
	}
	info := infoOf(p.path, &stat)
	info.Mode = mode
	return info, nil
}
