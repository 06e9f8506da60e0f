// This file owns applying patches: what package patch worked out is put in its place by renames, after all of it was made and
// looked at.
package files

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
	"pyro.dev/pyro/go/internal/patch"
	"pyro.dev/pyro/go/internal/transfer"
)

// stuck are the attributes of what must not be changed.
const stuck = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND

// Patch applies a unified or git patch: all of it, or after a refusal that is not Partly nothing. Errors: *Refusal, that of ctx.
func (t *Tree) Patch(ctx context.Context, id string, text []byte) ([]patch.Outcome, error) {
	return change(ctx, &t.once, id, func() ([]patch.Outcome, error) {
		release, err := t.places.Hold(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		top, err := t.top()
		if err != nil {
			return nil, err
		}
		defer unix.Close(top)
		ground := &ground{tree: t, top: top, looked: map[string]bool{}}
		plan, err := patch.Apply(ctx, text, ground)
		if err != nil {
			return nil, told(err)
		}
		defer plan.Drop()
		if err := t.places.Room(); err != nil {
			return nil, obstacle(err, "")
		}
		if err := ground.carryOut(plan); err != nil {
			return nil, err
		}
		return plan.Outcomes, nil
	})
}

var problems = map[patch.Kind]Kind{
	patch.Invalid: BadPatch, patch.Rejected: Reject, patch.Outside: Outside, patch.Conflict: Conflict, patch.Limit: Limit,
}

// told turns a problem with a patch into a refusal.
func told(err error) error {
	var problem *patch.Problem
	if !errors.As(err, &problem) {
		return err
	}
	return &Refusal{
		Kind: problems[problem.Kind], Why: problem.Why, Path: problem.Path,
		Hunk: problem.Hunk, Line: uint64(problem.Line), Expected: problem.Expected, Found: problem.Found,
	}
}

// ground is the workspace as a patch sees it.
type ground struct {
	tree *Tree
	top  int
	// looked are directories of which it is known that they may be changed.
	looked map[string]bool
}

// above opens the directory of a name, without following anything.
func (g *ground) above(path string) (directory int, base string, err error) {
	above, base := split(path)
	directory, err = open(g.top, above, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	return directory, base, err
}

func (g *ground) Look(path string) (patch.Entry, error) {
	directory, base, err := g.above(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return patch.Entry{}, nil
	}
	if err != nil {
		return patch.Entry{}, obstacle(err, path)
	}
	defer unix.Close(directory)
	above, _ := split(path)
	if !g.looked[above] {
		if err := changeable(directory, "", above); err != nil {
			return patch.Entry{}, err
		}
		g.looked[above] = true
	}
	var stat unix.Statx_t
	err = unix.Statx(directory, base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS, &stat)
	if errors.Is(err, unix.ENOENT) {
		return patch.Entry{}, nil
	}
	if err != nil {
		return patch.Entry{}, obstacle(err, path)
	}
	entry := patch.Entry{Permissions: uint32(stat.Mode) & permissions, Size: int64(stat.Size)}
	switch typeOf(uint32(stat.Mode)) {
	case File:
		entry.Type = patch.File
	case Symlink:
		entry.Type = patch.Link
	case Directory:
		entry.Type = patch.Directory
		return entry, nil
	default:
		entry.Type = patch.Other
	}
	return entry, fixed(&stat, path)
}

// changeable refuses a name, "" for the directory itself, that nothing may be done to.
func changeable(directory int, name, path string) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var stat unix.Statx_t
	if err := unix.Statx(directory, name, flags, unix.STATX_TYPE, &stat); err != nil {
		return obstacle(err, path)
	}
	return fixed(&stat, path)
}

func fixed(stat *unix.Statx_t, path string) error {
	if stat.Attributes&stuck != 0 {
		return refuse(Conflict, path, "%s must not be changed (chattr)", shown(path))
	}
	if path != "" && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return refuse(Conflict, path, "%s is another file system", shown(path))
	}
	return nil
}

func (g *ground) Read(path string) ([]byte, error) {
	directory, base, err := g.above(path)
	if err != nil {
		return nil, obstacle(err, path)
	}
	defer unix.Close(directory)
	target, err := readLink(directory, base)
	if err == nil {
		return []byte(target), nil
	}
	fd, err := open(directory, base, unix.O_RDONLY|unix.O_NONBLOCK, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, obstacle(err, path)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, obstacle(err, path)
	}
	if err := needFile(path, stat.Mode); err != nil {
		return nil, err
	}
	return readAll(fd, path, &stat, patch.MostContent)
}

func (g *ground) Only(path string, names map[string]bool) (bool, error) {
	fd, err := open(g.top, path, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return false, obstacle(err, path)
	}
	defer unix.Close(fd)
	var directories []string
	other := errors.New("something else")
	err = listing.Each(fd, func(name string, isDirectory bool) error {
		if isDirectory {
			directories = append(directories, path+"/"+name)
			return nil
		}
		if !names[path+"/"+name] {
			return other
		}
		return nil
	})
	if errors.Is(err, other) {
		return false, nil
	}
	if err != nil {
		return false, obstacle(err, path)
	}
	for _, directory := range directories {
		// One that none of the names is below stays.
		if !anyBelow(names, directory) {
			return false, nil
		}
		if only, err := g.Only(directory, names); !only || err != nil {
			return false, err
		}
	}
	return true, nil
}

func anyBelow(names map[string]bool, directory string) bool {
	for name := range names {
		if strings.HasPrefix(name, directory+"/") {
			return true
		}
	}
	return false
}

func (g *ground) Stage(path string, kind patch.Type, permissions uint32, content []byte) (patch.Staged, error) {
	var staged *transfer.Single
	var err error
	if kind == patch.Link {
		staged, err = g.tree.places.NewLink(string(content))
	} else {
		staged, err = g.tree.places.NewFile(permissions)
	}
	if err != nil {
		return nil, obstacle(err, path)
	}
	if kind != patch.Link {
		_, err = staged.Write(content)
	}
	if err == nil {
		err = staged.Close()
	}
	if err != nil {
		staged.Drop()
		return nil, obstacle(err, path)
	}
	return staged, nil
}

// carryOut puts everything in its place. What is renamed has its new name before it loses the old one, so that nothing is lost
// with the microVM; only what needs the place of something that goes comes behind it.
func (g *ground) carryOut(plan *patch.Plan) error {
	changed := false
	partly := func(path string, err error) error {
		err = obstacle(err, path)
		var refused *Refusal
		if errors.As(err, &refused) {
			refused.Partly = changed
		}
		return err
	}
	inTheWay := obstructed(plan.Removed)
	for _, made := range plan.Made {
		if inTheWay(made.Path) {
			continue
		}
		if err := g.place(made); err != nil {
			return partly(made.Path, err)
		}
		changed = true
	}
	for _, path := range plan.Removed {
		if err := g.remove(path); err != nil {
			return partly(path, err)
		}
		changed = true
	}
	for _, made := range plan.Made {
		if !inTheWay(made.Path) {
			continue
		}
		if err := g.place(made); err != nil {
			return partly(made.Path, err)
		}
	}
	return nil
}

// obstructed returns what says of a name whether something that goes is above or below it.
func obstructed(removed []string) func(path string) bool {
	names, above := map[string]bool{}, map[string]bool{}
	for _, name := range removed {
		names[name] = true
		for up, _ := split(name); up != ""; up, _ = split(up) {
			above[up] = true
		}
	}
	return func(path string) bool {
		if above[path] {
			return true
		}
		for up, _ := split(path); up != ""; up, _ = split(up) {
			if names[up] {
				return true
			}
		}
		return false
	}
}

func (g *ground) place(made patch.Made) error {
	above, base := split(made.Path)
	p := &place{path: made.Path, directory: -1}
	defer func() { p.close() }()
	var err error
	p.directory, err = open(g.top, above, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.ENOENT) {
		p.directory, err = p.makeParents(g.top, above)
	}
	if err != nil {
		return err
	}
	return made.Staged.(*transfer.Single).Place(p.directory, base)
}

// remove takes a name away, and the directories above it that it leaves empty.
func (g *ground) remove(path string) error {
	directory, base, err := g.above(path)
	if err != nil {
		return err
	}
	err = unix.Unlinkat(directory, base, 0)
	unix.Close(directory)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	for above, _ := split(path); above != ""; above, _ = split(above) {
		directory, base, err := g.above(above)
		if err != nil {
			return nil
		}
		err = unix.Unlinkat(directory, base, unix.AT_REMOVEDIR)
		unix.Close(directory)
		if err != nil {
			return nil
		}
	}
	return nil
}
